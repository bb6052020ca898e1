// Small charts drawn on canvas: of the last minute, or of whatever else has a place on a line.

export const WINDOW_MS = 60_000;
const GAP_MS = 3000;
const PADDING = { left: 34, right: 2, top: 6, bottom: 4 };

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const shortNumber = value => value >= 1e6 ? `${(value / 1e6).toFixed(1)}M` : value >= 1e4 ? `${Math.round(value / 1e3)}k`
  : value >= 1e3 ? `${(value / 1e3).toFixed(1)}k` : value >= 10 || value === 0 ? value.toFixed(0) : value.toFixed(1);

/** One chart: {title, unit, series: [{name, colour}], stacked, fromZero, headline(newest) → text}; `newest` has what
 * was added last, undefined for a series that got nothing then. What is older than `windowMs` is not shown; points further
 * apart than `gapMs` are not joined. */
export class Chart {
  constructor(parent, { title, series, stacked = false, fromZero = true, headline, digits = 0, unit = "", windowMs = WINDOW_MS, gapMs = GAP_MS }) {
    Object.assign(this, { title, stacked, fromZero, headline, windowMs, gapMs });
    this.format = value => value === null || value === undefined ? "–" : `${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}${unit && ` ${unit}`}`;
    this.series = series.map(({ name, colour }) => ({ name, points: [], swatch: element("i"), value: element("b", { textContent: "–" }), colour }));
    this.big = element("b");
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    const legend = element("ul", { className: "legend" }, ...this.series.map(({ name, swatch, value, colour }) => {
      swatch.style.color = `var(--${colour})`;
      return element("li", {}, swatch, `${name} `, value);
    }));
    parent.append(element("div", { className: "chart card" }, element("h3", {}, title, this.big), this.canvas, legend));
  }

  /** values: one for each series; null where there is none. */
  add(atMs, values) {
    values.forEach((value, index) => {
      if (value !== null && value !== undefined) this.series[index].points.push([atMs, value]);
    });
    for (const one of this.series) while (one.points.length && one.points[0][0] < atMs - this.windowMs - this.gapMs) one.points.shift();
  }

  clear() {
    for (const one of this.series) one.points = [];
  }

  draw(nowMs, marks) {
    const ratio = devicePixelRatio || 1, width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    if (!width) return;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const drawing = this.canvas.getContext("2d");
    drawing.scale(ratio, ratio);
    this._say(nowMs);
    const style = getComputedStyle(this.canvas);
    const layers = this._layers(), { low, high } = this._range(layers, nowMs);
    const plot = {
      drawing, width, height,
      x: ms => PADDING.left + (1 - (nowMs - ms) / this.windowMs) * (width - PADDING.left - PADDING.right),
      y: value => PADDING.top + (1 - (value - low) / (high - low)) * (height - PADDING.top - PADDING.bottom),
    };
    this._grid(plot, [low, (low + high) / 2, high], style);
    drawing.save();
    drawing.beginPath();
    drawing.rect(PADDING.left, 0, width, height);
    drawing.clip();
    for (const { atMs } of marks) this._mark(plot, plot.x(atMs));
    layers.forEach((layer, index) => this._line(plot, layer, this.series[index].swatch));
    drawing.restore();
  }

  /** Where an event is between the two ends of what is drawn, 0 to 1. */
  shareAt({ clientX }) {
    const { left, width } = this.canvas.getBoundingClientRect();
    return Math.min(1, Math.max(0, (clientX - left - PADDING.left) / (width - PADDING.left - PADDING.right)));
  }

  _say(nowMs) {
    const newest = this.series.map(({ points }) => points.at(-1)).map(point => point?.[0] < nowMs - this.windowMs ? undefined : point);
    const newestAtMs = Math.max(...newest.map(point => point?.[0] ?? -Infinity));
    this.series.forEach(({ value }, index) => { value.textContent = this.format(newest[index]?.[1]); });
    this.big.textContent = this.headline ? this.headline(newest.map(point => point?.[0] === newestAtMs ? point[1] : undefined)) : "";
    this.canvas.setAttribute("aria-label", `${this.title}: ${this.series.map(one => `${one.name} ${one.value.textContent}`).join(", ")}`);
  }

  /** Of each series its points as {atMs, base, top}. Those of a stack always get theirs together, and several at one time in a burst. */
  _layers() {
    let below = [];
    return this.series.map(({ points }) => {
      const layer = points.map(([atMs, value], index) => {
        const base = below[index]?.top ?? 0;
        return { atMs, base, top: base + value };
      });
      if (this.stacked) below = layer;
      return layer;
    });
  }

  _range(layers, nowMs) {
    let [least, most] = [Infinity, -Infinity];
    for (const layer of layers) {
      for (const { atMs, top } of layer) {
        if (atMs >= nowMs - this.windowMs) [least, most] = [Math.min(least, top), Math.max(most, top)];
      }
    }
    if (most < least) return { low: 0, high: 1 };
    const low = this.fromZero ? 0 : Math.floor(least - .5), high = this.fromZero ? most * 1.12 : Math.ceil(most + .5);
    return { low, high: high > low ? high : low + 1 };
  }

  _grid({ drawing, width, y }, values, style) {
    drawing.font = `10px ${style.fontFamily}`;
    drawing.textAlign = "right";
    drawing.textBaseline = "middle";
    for (const value of values) {
      drawing.globalAlpha = .16;
      drawing.fillStyle = style.color;
      drawing.fillRect(PADDING.left, Math.round(y(value)), width, 1);
      drawing.globalAlpha = .6;
      if (value !== values[1]) drawing.fillText(shortNumber(value), PADDING.left - 6, y(value) + (value === values[0] ? -3 : 3));
    }
    drawing.globalAlpha = 1;
  }

  _mark({ drawing, height }, x) {
    drawing.save();
    drawing.strokeStyle = "#b07cff";
    drawing.setLineDash([3, 3]);
    drawing.beginPath();
    drawing.moveTo(x, 0);
    drawing.lineTo(x, height);
    drawing.stroke();
    drawing.restore();
  }

  _line({ drawing, x, y }, layer, swatch) {
    const colour = getComputedStyle(swatch).color;
    drawing.strokeStyle = drawing.fillStyle = colour;
    drawing.lineWidth = 1.6;
    drawing.lineJoin = "round";
    for (const run of runs(layer, this.gapMs)) {
      drawing.beginPath();
      run.forEach(({ atMs, top }) => drawing.lineTo(x(atMs), y(top)));
      drawing.stroke();
      if (this.stacked) {
        run.toReversed().forEach(({ atMs, base }) => drawing.lineTo(x(atMs), y(base)));
        drawing.globalAlpha = .28;
        drawing.fill();
        drawing.globalAlpha = 1;
      }
      const { atMs, top } = run.at(-1);
      drawing.fillRect(x(atMs) - 1.5, y(top) - 1.5, 3, 3);
    }
  }
}

/** Points that belong together: a line over a time when nothing came would be made up. */
function runs(points, gapMs) {
  const found = [];
  for (const point of points) {
    const run = found.at(-1);
    if (run && point.atMs - run.at(-1).atMs < gapMs) run.push(point);
    else found.push([point]);
  }
  return found;
}
