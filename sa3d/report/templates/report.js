"use strict";
(() => {
  const box = document.getElementById("viewer");
  const canvas = document.getElementById("viewer-canvas");
  const pen = canvas.getContext("2d");
  if (!pen) return;

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const coordinates = (text) => Float32Array.from(new Int16Array(bytes(text).buffer), (v) => v / 16384);
  const clouds = JSON.parse(document.getElementById("viewer-data").textContent).map((c) => ({
    name: c.name,
    points: coordinates(c.points), rank: bytes(c.rank), state: bytes(c.state),
    rebuilt: coordinates(c.rebuilt), rebuiltState: bytes(c.rebuiltState),
  }));
  const panels = ["predicted complexity", "what was masked", "what was rebuilt"];
  const ranked = clouds.every((cloud) => cloud.rank.length > 0);
  const shown = { cloud: 0, panel: ranked ? 0 : 1, azimuth: 0.66, elevation: 0.35 };

  const style = () => getComputedStyle(document.documentElement);
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.trim().slice(i, i + 2), 16));
  let colors = {};
  const readColors = () => {
    const css = style();
    colors = {
      paper: rgb(css.getPropertyValue("--paper")),
      states: ["--visible", "--random", "--hard"].map((name) => rgb(css.getPropertyValue(name))),
      ramp: css.getPropertyValue("--ramp").split(",").map(rgb),
    };
  };
  const ramp = (rank) => {
    const place = (rank / 255) * (colors.ramp.length - 1);
    const low = Math.min(Math.floor(place), colors.ramp.length - 2);
    return colors.ramp[low].map((v, i) => v + (colors.ramp[low + 1][i] - v) * (place - low));
  };

  const dots = () => {
    const cloud = clouds[shown.cloud];
    const found = [];
    const add = (points, i, color) => found.push([points[3 * i], points[3 * i + 1], points[3 * i + 2], color]);
    cloud.state.forEach((state, i) => {
      if (shown.panel === 2 && state !== 0) return;
      add(cloud.points, i, shown.panel === 0 ? ramp(cloud.rank[i]) : colors.states[state]);
    });
    if (shown.panel === 2) cloud.rebuiltState.forEach((state, i) => add(cloud.rebuilt, i, colors.states[state]));
    return found;
  };

  const draw = () => {
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth * scale, height = canvas.clientHeight * scale;
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    pen.clearRect(0, 0, width, height);
    const ca = Math.cos(shown.azimuth), sa = Math.sin(shown.azimuth);
    const ce = Math.cos(shown.elevation), se = Math.sin(shown.elevation);
    const unit = Math.min(width, height) / 2.2, distance = 4.2;
    const count = clouds[shown.cloud].state.length;
    const fog = shown.panel === 0 ? 0.25 : 0.55;
    dots().map(([x, y, z, color]) => {
      const right = ca * x - sa * z, back = sa * x + ca * z;
      return [right, ce * y - se * back, se * y + ce * back, color];
    }).sort((a, b) => a[2] - b[2]).forEach(([x, y, depth, color]) => {
      const grow = distance / (distance - depth), near = Math.max(0, Math.min(1, (depth + 1) / 2));
      const tint = color.map((v, i) => v + (colors.paper[i] - v) * fog * (1 - near));
      const radius = (unit * 0.875 / Math.sqrt(count)) * (0.62 + 0.5 * near);
      pen.beginPath();
      pen.arc(width / 2 + x * grow * unit, height / 2 - y * grow * unit, radius, 0, 2 * Math.PI);
      pen.fillStyle = `rgb(${tint.map(Math.round)})`;
      pen.fill();
      pen.lineWidth = radius * 0.14;
      pen.strokeStyle = `rgb(${tint.map((v) => Math.round(v * 0.8))})`;
      pen.stroke();
    });
  };
  let waiting = false;
  const refresh = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  };

  const choices = (id, names, key, first = 0) => {
    const row = document.getElementById(id);
    names.slice(first).forEach((name, place) => {
      const index = place + first;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.setAttribute("aria-pressed", String(index === shown[key]));
      button.addEventListener("click", () => {
        shown[key] = index;
        [...row.children].forEach((other, i) => other.setAttribute("aria-pressed", String(i === place)));
        refresh();
      });
      row.append(button);
    });
  };
  choices("viewer-clouds", clouds.map((cloud) => cloud.name), "cloud");
  choices("viewer-panels", panels, "panel", ranked ? 0 : 1);

  const turn = (right, up) => {
    shown.azimuth -= right;
    shown.elevation = Math.max(-1.5, Math.min(1.5, shown.elevation + up));
    refresh();
  };
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) turn(event.movementX * 0.01, event.movementY * 0.01);
  });
  const arrows = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
  canvas.addEventListener("keydown", (event) => {
    if (!arrows[event.key]) return;
    event.preventDefault();
    turn(...arrows[event.key]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); refresh(); });
  new ResizeObserver(refresh).observe(canvas);
  readColors();
  box.classList.add("ready");
  refresh();
})();
