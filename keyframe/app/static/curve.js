// Importance over time on a canvas: shots, annotators' band, curves of models, keyframes, playhead; click to seek.
import { clock } from "./common.js";

const PADDING = { left: 34, right: 8, top: 10, bottom: 20 };
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];

export class Curve {
  /** @param {HTMLElement} place focusable, a slider @param {HTMLVideoElement} player */
  constructor(place, player) {
    this.place = place;
    this.player = player;
    this.canvas = place.appendChild(document.createElement("canvas"));
    this.curves = []; // { seconds, score, shots, colour }, the first gives the shots
    this.band = null;
    this.marks = []; // { seconds, rank }
    this.duration = 1;
    this.from = 0;
    this.to = 1;
    new ResizeObserver(() => this.draw()).observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    place.addEventListener("pointerdown", (event) => {
      place.setPointerCapture(event.pointerId);
      this.seekTo(event);
    });
    place.addEventListener("pointermove", (event) => {
      if (event.buttons) this.seekTo(event);
    });
    place.addEventListener("keydown", (event) => this.onKey(event));
    place.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    for (const kind of ["timeupdate", "seeked", "loadedmetadata"]) player.addEventListener(kind, () => this.follow());
    const frame = () => {
      if (!player.paused) this.follow();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  /** Show other data; the part that is seen stays unless the length changes. */
  set({ curves = this.curves, band = this.band, marks = this.marks, duration = this.duration }) {
    Object.assign(this, { curves, band, marks });
    if (duration !== this.duration) {
      this.duration = duration;
      this.show(0, duration);
    }
    this.place.setAttribute("aria-valuemax", duration.toFixed(1));
    this.follow();
  }

  /** See the part between two times. */
  show(from, to) {
    const length = Math.min(Math.max(to - from, Math.min(2, this.duration)), this.duration);
    this.from = Math.min(Math.max(0, from), this.duration - length);
    this.to = this.from + length;
    this.draw();
  }

  zoom(factor, around = this.player.currentTime) {
    const middle = around >= this.from && around <= this.to ? around : (this.from + this.to) / 2;
    this.show(middle - (middle - this.from) * factor, middle + (this.to - middle) * factor);
  }

  follow() {
    const now = this.player.currentTime;
    if (!this.player.paused && now > this.to) this.show(now, now + this.to - this.from);
    this.place.setAttribute("aria-valuenow", now.toFixed(1));
    this.place.setAttribute("aria-valuetext", `${clock(now, 1)} of ${clock(this.duration)}`);
    this.draw();
  }

  seekTo(event) {
    const box = this.place.getBoundingClientRect();
    const share = (event.clientX - box.left - PADDING.left) / (box.width - PADDING.left - PADDING.right);
    this.seek(this.from + share * (this.to - this.from));
  }

  seek(seconds) {
    this.player.currentTime = Math.min(Math.max(0, seconds), Math.max(0, this.duration - 0.01));
  }

  onKey(event) {
    const now = this.player.currentTime;
    const starts = (this.curves[0]?.shots ?? []).map((shot) => shot.start);
    const moves = {
      ArrowLeft: () => this.seek(now - 1),
      ArrowRight: () => this.seek(now + 1),
      ArrowDown: () => this.seek(now - 1),
      ArrowUp: () => this.seek(now + 1),
      PageUp: () => this.seek(starts.find((start) => start > now + 0.05) ?? this.duration),
      PageDown: () => this.seek(starts.findLast((start) => start < now - 0.5) ?? 0),
      Home: () => this.seek(0),
      End: () => this.seek(this.duration),
      "+": () => this.zoom(0.5),
      "-": () => this.zoom(2),
      " ": () => (this.player.paused ? this.player.play() : this.player.pause()),
    };
    if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    moves[event.key]();
  }

  onWheel(event) {
    const length = this.to - this.from;
    if (event.ctrlKey) this.zoom(event.deltaY > 0 ? 1.25 : 0.8);
    else if (event.deltaX) this.show(this.from + (event.deltaX / 500) * length, this.to + (event.deltaX / 500) * length);
    else return;
    event.preventDefault();
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = devicePixelRatio || 1;
    if (!width) return;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(this.place);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const bottom = height - PADDING.bottom;
    const x = (seconds) =>
      PADDING.left + ((seconds - this.from) / (this.to - this.from)) * (width - PADDING.left - PADDING.right);
    const y = (score) => bottom - score * (bottom - PADDING.top);
    pen.font = `12px ${style.fontFamily}`;
    this.axes(pen, x, y, width, bottom, colour);
    pen.save();
    pen.beginPath();
    pen.rect(PADDING.left, 0, width - PADDING.left - PADDING.right, bottom + 1);
    pen.clip();
    (this.curves[0]?.shots ?? []).forEach((shot, place) => {
      if (place % 2 || shot.end < this.from || shot.start > this.to) return;
      pen.fillStyle = colour("shot");
      pen.fillRect(x(shot.start), PADDING.top, x(shot.end) - x(shot.start), bottom - PADDING.top);
    });
    if (this.band) this.paintBand(pen, x, y, colour);
    for (const curve of this.curves) {
      pen.strokeStyle = colour(curve.colour);
      pen.lineWidth = 1.6;
      this.path(pen, curve.seconds, curve.score, x, y);
      pen.stroke();
    }
    pen.fillStyle = colour("mark");
    const first = this.curves[0];
    for (const mark of this.marks) {
      const at = first ? y(valueAt(first, mark.seconds)) : bottom;
      pen.beginPath();
      pen.arc(x(mark.seconds), at, 4.5, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.restore();
    const now = x(this.player.currentTime);
    if (now >= PADDING.left - 1 && now <= width - PADDING.right + 1) {
      pen.fillStyle = colour("ink");
      pen.fillRect(now - 1, PADDING.top - 6, 2, bottom - PADDING.top + 6);
    }
  }

  axes(pen, x, y, width, bottom, colour) {
    pen.fillStyle = colour("soft");
    pen.strokeStyle = colour("line");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const score of [0, 0.5, 1]) {
      pen.fillText(score.toString(), PADDING.left - 6, y(score));
      pen.beginPath();
      pen.moveTo(PADDING.left, y(score));
      pen.lineTo(width - PADDING.right, y(score));
      pen.stroke();
    }
    const least = ((this.to - this.from) / width) * 70;
    const step = STEPS.find((one) => one >= least) ?? 14400;
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (let at = Math.ceil(this.from / step) * step; at <= this.to; at += step) {
      pen.fillText(clock(at, step < 1 ? 1 : 0), Math.min(Math.max(x(at), 20), width - 22), bottom + 5);
    }
  }

  paintBand(pen, x, y, colour) {
    const { seconds, low, high, mean } = this.band;
    if (low) {
      pen.beginPath();
      seconds.forEach((at, place) => pen.lineTo(x(at), y(high[place])));
      for (let place = seconds.length - 1; place >= 0; place--) pen.lineTo(x(seconds[place]), y(low[place]));
      pen.closePath();
      pen.fillStyle = colour("band");
      pen.fill();
    }
    pen.setLineDash([5, 3]);
    pen.strokeStyle = colour("mean");
    pen.lineWidth = 1.4;
    this.path(pen, seconds, mean, x, y);
    pen.stroke();
    pen.setLineDash([]);
  }

  /** A line through points; where many share a pixel, their lowest and highest. */
  path(pen, seconds, values, x, y) {
    pen.beginPath();
    const first = Math.max(0, indexAt(seconds, this.from));
    let column = NaN;
    let [low, high] = [1, 0];
    for (let place = first; place < seconds.length && (place === first || seconds[place - 1] <= this.to); place++) {
      const at = Math.round(2 * x(seconds[place])) / 2;
      if (at !== column) {
        if (low <= high) pen.lineTo(column, y(low));
        if (low < high) pen.lineTo(column, y(high));
        column = at;
        pen.lineTo(at, y(values[place]));
        [low, high] = [1, 0];
      } else {
        [low, high] = [Math.min(low, values[place]), Math.max(high, values[place])];
      }
    }
    if (seconds.length) {
      if (low <= high) pen.lineTo(column, y(high));
      const last = seconds.length - 1;
      if (seconds[last] <= this.to) pen.lineTo(x(this.duration), y(values[last]));
    }
  }
}

/** The last place whose time is not after `at`; -1 before the first. */
export function indexAt(seconds, at) {
  let [low, high] = [0, seconds.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (seconds[middle] <= at + 1e-6) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function valueAt(curve, at) {
  return curve.score[Math.max(0, indexAt(curve.seconds, at))] ?? 0;
}
