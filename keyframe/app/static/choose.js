// Choosing keyframes: a method and its settings, a strip of thumbnails, changes by hand with undo, export.
import { api, attempt, clock, copy, el, page, say, still } from "./common.js";
import { indexAt } from "./curve.js";

// What a setting is called, and the range of its control.
const SETTINGS = {
  k: { label: "number of keyframes", min: 1, max: 500, step: 1, empty: "by itself" },
  per_minute: { label: "keyframes per minute", min: 0, max: 60, step: 0.5 },
  most: { label: "at most", min: 1, max: 500, step: 1 },
  coverage: { label: "share of the video shown", min: 0, max: 1, step: 0.01 },
  ratio: { label: "share of the video kept", min: 0, max: 1, step: 0.01 },
  min_distance: { label: "seconds apart at least", min: 0, max: 600, step: 0.5 },
  max_similarity: { label: "similarity at most", min: -1, max: 1, step: 0.01 },
  steps: { label: "steps of a slide too", box: true },
};
const METHODS = {
  adaptive: "as many as the content needs",
  top: "the best of each shot",
  knapsack: "whole shots within a share",
  uniform: "evenly spaced",
};

export class Choice {
  /** @param curve the `Curve` of the page @param watch called once a task has begun */
  constructor(curve, watch) {
    this.curve = curve;
    this.watch = watch;
    this.state = null; // { method, settings, times }: times chosen by hand, or null
    this.before = []; // earlier states
    this.keyframes = [];
    this.asked = 0;
    page.undo.addEventListener("click", () => this.undo());
    page.add.addEventListener("click", () => this.add());
    page.export.addEventListener("click", () => attempt(() => this.export()));
    page.copy.addEventListener("click", () => attempt(() => copy(page.command)));
    page.controls.addEventListener("submit", (event) => event.preventDefault());
    page.controls.addEventListener("input", (event) => this.onControl(event));
    for (const id of ["format", "skim", "edl", "otio", "vtt"]) page[id].addEventListener("change", () => this.update());
    document.addEventListener("keydown", (event) => {
      const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "checkbox";
      if ((event.ctrlKey || event.metaKey) && event.key === "z" && !typing) {
        event.preventDefault();
        this.undo();
      }
    });
    curve.player.addEventListener("timeupdate", () => this.mark());
  }

  /** Show the choice for a video, if a model has scored it. */
  async show(video, curves) {
    this.video = video;
    this.curves = curves;
    page.choose.hidden = !curves.length;
    if (!curves.length) return;
    if (!this.choices) {
      this.choices = await api("choices");
      const { method, settings } = this.choices.start;
      this.state = { model: curves[0].model, method, settings, times: method === "times" ? settings.seconds : null };
      if (method === "times") this.state = { ...this.state, method: "adaptive", settings: {} };
    }
    this.controls();
    const first = curves.find((one) => one.model === this.state.model);
    if (first?.chosen && !this.before.length) this.present(first.keyframes);
    await this.update();
  }

  controls() {
    const { model, method, settings } = this.state;
    const choose = (label, name, options, value) =>
      el(
        "label",
        {},
        label,
        el(
          "select",
          { name },
          options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)),
        ),
      );
    const fields = Object.entries(this.choices.methods[method]).map(([name, usual]) => {
      const { label, box, empty, ...range } = SETTINGS[name];
      const value = settings[name] ?? usual;
      if (box) {
        return el("label", { class: "beside" }, el("input", { type: "checkbox", name, checked: value }), label);
      }
      return el("label", {}, label, el("input", { type: "number", name, ...range, value: value ?? "", placeholder: empty }));
    });
    const models = this.curves.map((one) => [one.model, one.name]);
    page.controls.replaceChildren(
      choose("Method", "method", Object.entries(METHODS), method),
      models.length > 1 ? choose("Scores of", "model", models, model) : "",
      ...fields,
    );
  }

  onControl(event) {
    const { name, type, value, checked } = event.target;
    if (name === "method") this.change({ method: value, settings: {}, times: null });
    else if (name === "model") this.change({ model: value, times: null });
    else {
      if (!event.target.checkValidity()) return;
      const settings = { ...this.state.settings, [name]: type === "checkbox" ? checked : value === "" ? null : Number(value) };
      if (value === "" && this.choices.methods[this.state.method][name] !== null) delete settings[name];
      this.change({ settings, times: null });
    }
    if (name === "method" || name === "model") {
      this.controls();
      page.controls.elements[name].focus();
    }
  }

  change(parts) {
    this.before.push(this.state);
    this.state = { ...this.state, ...parts };
    return this.update();
  }

  undo() {
    if (!this.before.length) return;
    this.state = this.before.pop();
    this.controls();
    this.update();
  }

  request() {
    const { model, method, settings, times } = this.state;
    const hand = times !== null;
    return {
      model,
      method: hand ? "times" : method,
      settings: hand ? { seconds: times } : settings,
      format: page.format.value,
      summary_video: page.skim.checked,
      cut_lists: ["edl", "otio", "vtt"].filter((kind) => page[kind].checked),
    };
  }

  /** Ask for the keyframes of the present state; of several answers the last counts. */
  async update() {
    page.undo.disabled = !this.before.length;
    const asked = ++this.asked;
    const start = performance.now();
    const found = await attempt(() => api(`videos/${this.video.id}/choice`, this.request()));
    if (!found || asked !== this.asked) return;
    page.command.textContent = found.command;
    this.present(found.keyframes, found.notes);
    performance.measure("choice", { start });
  }

  present(keyframes, notes = []) {
    this.keyframes = keyframes;
    const count = `${keyframes.length} keyframe${keyframes.length === 1 ? "" : "s"}`;
    const hand = this.state.times === null ? "" : ", changed by hand";
    page.chosen.textContent = [count + hand, ...notes].join("; ");
    this.strip();
    this.curve.set({ marks: keyframes });
  }

  strip() {
    const kept = new Map([...page.strip.children].map((item) => [item.dataset.seconds, item]));
    const items = this.keyframes.map((keyframe) => {
      const key = String(keyframe.seconds);
      const item = kept.get(key) ?? this.item(keyframe);
      item.querySelector(".rank").textContent = `${clock(keyframe.seconds, 1)} #${keyframe.rank}`;
      return item;
    });
    const focused = document.activeElement;
    page.strip.replaceChildren(...items);
    if (page.strip.contains(focused)) focused.focus({ preventScroll: true }); // it was taken out for a moment
    this.mark();
  }

  item(keyframe) {
    const at = clock(keyframe.seconds, 1);
    const { seconds } = keyframe;
    const tool = (text, label, doing) => el("button", { "aria-label": `${label} ${at}`, title: label, onclick: doing }, text);
    return el(
      "li",
      { data: { seconds: String(seconds) } },
      el(
        "button",
        { class: "pick", "aria-label": `Go to ${at}`, onclick: () => this.curve.seek(seconds) },
        still(this.video, seconds),
      ),
      el("span", { class: "rank" }),
      el(
        "span",
        { class: "tools" },
        tool("\u2190", "Move one frame back:", () => this.move(seconds, -1)),
        tool("\u2715", "Drop:", () => this.drop(seconds)),
        tool("\u2192", "Move one frame on:", () => this.move(seconds, 1)),
      ),
    );
  }

  /** Point out the keyframe under the playhead. */
  mark() {
    const now = this.curve.player.currentTime;
    for (const item of page.strip.children) {
      item.classList.toggle("now", Math.abs(Number(item.dataset.seconds) - now) < 0.3);
    }
  }

  times() {
    return this.keyframes.map((keyframe) => keyframe.seconds);
  }

  /** The scored frames of the model: only they can be keyframes. */
  frames() {
    return (this.curves.find((one) => one.model === this.state.model) ?? this.curves[0]).seconds;
  }

  add() {
    const frames = this.frames();
    const place = Math.max(0, indexAt(frames, this.curve.player.currentTime));
    this.change({ times: [...new Set([...this.times(), frames[place]])].sort((a, b) => a - b) });
  }

  drop(seconds) {
    const times = this.times().filter((one) => one !== seconds);
    if (!times.length) {
      say("One keyframe has to stay.");
      return;
    }
    this.focusNext(seconds);
    this.change({ times });
  }

  async move(seconds, step) {
    const frames = this.frames();
    const to = frames[indexAt(frames, seconds) + step];
    if (to === undefined || this.times().includes(to)) return;
    await this.change({ times: this.times().map((one) => (one === seconds ? to : one)) });
    this.curve.seek(to);
    page.strip.querySelector(`[data-seconds="${to}"] .tools`)?.children[step < 0 ? 0 : 2].focus();
  }

  focusNext(seconds) {
    const items = [...page.strip.children];
    const place = items.findIndex((item) => item.dataset.seconds === String(seconds));
    (items[place + 1] ?? items[place - 1])?.querySelector(".tools").children[1].focus();
  }

  async export() {
    page.export.disabled = true;
    page.download.hidden = true;
    page.written.textContent = "Writing ...";
    await api(`videos/${this.video.id}/export`, this.request());
    this.watch();
  }

  /** Show what has become of an export by its state. */
  async exported(state) {
    page.export.disabled = ["waiting", "running"].includes(state);
    if (state !== "done") {
      page.written.textContent = state === "running" ? "Writing ..." : "";
      return;
    }
    const { folder } = await api(`videos/${this.video.id}/export`);
    page.written.textContent = folder ? `Written to ${folder}` : "";
    page.download.hidden = !folder;
    page.download.href = `/api/videos/${this.video.id}/export.zip`;
  }
}
