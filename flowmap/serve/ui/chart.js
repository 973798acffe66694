// Traffic over time, as far as this page has watched it: two areas, received above and sent below.

import { clock, h, put, rate, s, set } from "./dom.js";

const KEPT = 300;
const [WIDTH, HEIGHT] = [600, 90];

export class Chart {
  constructor() {
    /** @type {{at: string, receive: number, transmit: number}[]} */ this.points = [];
    this.areas = { receive: s("path", { class: "receive" }), transmit: s("path", { class: "transmit" }) };
    this.svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" }, Object.values(this.areas), s("path", { class: "axis", d: `M0 ${HEIGHT / 2}H${WIDTH}` }));
    this.caption = h("figcaption");
    this.root = h("figure", { class: "chart" }, this.svg, this.caption);
  }

  /** @param {string | null} at @param {{receiveRate: number | null, transmitRate: number | null}} total */
  add(at, total) {
    if (!at || total.receiveRate === null || at === this.points.at(-1)?.at) return;
    this.points.push({ at, receive: total.receiveRate ?? 0, transmit: total.transmitRate ?? 0 });
    if (this.points.length > KEPT) this.points.shift();
    const most = Math.max(1, ...this.points.map((point) => Math.max(point.receive, point.transmit)));
    const step = WIDTH / Math.max(1, this.points.length - 1);
    for (const [name, sign] of /** @type {["receive" | "transmit", number][]} */ ([["receive", -1], ["transmit", 1]])) {
      const line = this.points.map((point, place) => `L${(place * step).toFixed(1)} ${(HEIGHT / 2) * (1 + (sign * point[name]) / most)}`);
      set(this.areas[name], { d: `M0 ${HEIGHT / 2}${line.join("")}L${WIDTH} ${HEIGHT / 2}Z` });
    }
    const text = `received ${rate(total.receiveRate)} above, sent ${rate(total.transmitRate)} below; highest ${rate(most)}`;
    set(this.svg, { "aria-label": text });
    put(this.caption, "Since ", clock(this.points[0]?.at ?? null), `: ${text}`);
  }
}
