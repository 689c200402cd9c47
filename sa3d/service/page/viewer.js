// Points on a canvas: drawn far to near, turned by dragging.

// apart in hue and in lightness, so that they differ in grey too
export const COLOURS = [
  "#0072b2", "#e69f00", "#009e73", "#cc3311", "#8e6cc9", "#56b4e9", "#8a5a00", "#ee6fa8",
  "#4b5563", "#b8c400",
];

export const colourOf = (part) => COLOURS[part % COLOURS.length];

export class Viewer {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = [];
    this.parts = null;
    this.turn = 0.6;
    this.tilt = 0.35;
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      this.turn += event.movementX * 0.01;
      this.tilt = Math.max(-1.5, Math.min(1.5, this.tilt + event.movementY * 0.01));
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(points, parts) {
    this.points = points;
    this.parts = parts ?? null;
    this.draw();
  }

  draw() {
    const density = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth * density;
    const height = this.canvas.clientHeight * density;
    this.canvas.width = width;
    this.canvas.height = height;
    const context = this.canvas.getContext("2d");
    const scale = 0.46 * Math.min(width, height);
    const [sine, cosine] = [Math.sin(this.turn), Math.cos(this.turn)];
    const [rise, level] = [Math.sin(this.tilt), Math.cos(this.tilt)];
    const ink = getComputedStyle(this.canvas).color;
    const seen = this.points.map(([x, y, z], at) => {
      const across = cosine * x + sine * z;
      const deep = -sine * x + cosine * z;
      return [across, level * y - rise * deep, rise * y + level * deep, at];
    });
    seen.sort((first, second) => first[2] - second[2]);
    const size = Math.max(1.5, Math.min(5, 160 / Math.sqrt(seen.length + 1))) * density;
    for (const [across, up, near, at] of seen) {
      context.globalAlpha = 0.45 + 0.55 * Math.min(1, Math.max(0, (near + 1) / 2));
      context.fillStyle = this.parts ? colourOf(this.parts[at]) : ink;
      context.fillRect(width / 2 + scale * across - size / 2, height / 2 - scale * up - size / 2, size, size);
    }
  }
}
