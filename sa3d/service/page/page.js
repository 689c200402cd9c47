// A file in, what the model says of it out. All text is set as text, never as HTML.

import { Viewer, colourOf } from "/viewer.js";

const SHOWN = 8192;
const BARS = 8;
const find = (id) => document.getElementById(id);
const viewer = new Viewer(find("view"));
let last = null;

function made(tag, text, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function tell(text, bad = false) {
  find("status").textContent = text;
  find("status").className = bad ? "bad" : "";
}

function swatch(colour) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", "0 0 1 1");
  const square = document.createElementNS(space, "rect");
  square.setAttribute("width", "1");
  square.setAttribute("height", "1");
  square.setAttribute("fill", colour);
  picture.append(square);
  return picture;
}

function classes(cloud) {
  const best = Object.entries(cloud.probabilities).sort((a, b) => b[1] - a[1]).slice(0, BARS);
  return [
    made("h2", cloud.class),
    ...best.map(([name, share]) => {
      const row = made("div", undefined, "bar");
      const meter = made("meter");
      meter.value = share;
      row.append(made("span", name, "name"), meter, made("span", `${(100 * share).toFixed(1)} %`, "share"));
      row.title = name;
      return row;
    }),
  ];
}

function legend(cloud, names) {
  const counts = new Map();
  for (const part of cloud.parts) counts.set(part, (counts.get(part) ?? 0) + 1);
  const rows = [...counts].sort((a, b) => b[1] - a[1]);
  return rows.map(([part, count]) => {
    const item = made("li");
    item.append(swatch(colourOf(part)), names[part], ` ${((100 * count) / cloud.parts.length).toFixed(1)} %`);
    return item;
  });
}

function show(found) {
  const [cloud] = found.clouds;
  viewer.show(cloud.shown.points, cloud.shown.parts);
  const answer = [];
  if (cloud.class) answer.push(...classes(cloud));
  if (cloud.parts) answer.push(made("h2", `Parts of a ${cloud.category}`));
  if (cloud.features) answer.push(made("h2", `${cloud.features.length} features`));
  find("answer").replaceChildren(...answer);
  find("legend").replaceChildren(...(cloud.parts ? legend(cloud, found.part_names) : []));
  const unusual = cloud.usual_density ? "" : "; a density far from that of training";
  tell(`${cloud.id}: ${cloud.points} points${unusual}`);
}

async function ask(file) {
  last = file;
  tell(`${file.name} …`);
  const form = new FormData();
  form.append("file", file);
  const query = new URLSearchParams({ up: find("up").value, shown: SHOWN });
  if (find("category").value) query.set("category", find("category").value);
  try {
    const response = await fetch(`/predict?${query}`, { method: "POST", body: form });
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    show(found);
  } catch (error) {
    find("answer").replaceChildren();
    find("legend").replaceChildren();
    viewer.show([], null);
    tell(error.message, true);
  }
}

async function begin() {
  const { model, formats } = await (await fetch("/model")).json();
  const sees = `sees ${model.points} points of a cloud`;
  const knows = model.part_names
    ? `${model.part_names.length} parts, `
    : model.class_names ? `${model.class_names.length} classes, ` : "";
  find("model").textContent = `${model.kind}, ${knows}${sees}`;
  find("formats").textContent = formats.join(" ");
  if (model.part_names) {
    find("category-row").hidden = false;
    find("category").append(...model.class_names.map((name) => made("option", name)));
  }
}

const drop = find("drop");
drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  if (event.dataTransfer.files.length) ask(event.dataTransfer.files[0]);
});
drop.addEventListener("keydown", (event) => { if (event.key === "Enter") find("file").click(); });
find("file").addEventListener("change", (event) => { if (event.target.files.length) ask(event.target.files[0]); });
for (const id of ["up", "category"]) find(id).addEventListener("change", () => { if (last) ask(last); });
begin().catch((error) => tell(`the service does not answer: ${error.message}`, true));
