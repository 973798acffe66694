// The map: deployments on the left, peers on the right, links as wide as their traffic. Elements stay over updates.

import { bytes, clean, count, h, put, rate, s, set } from "./dom.js";
import { key, size } from "./model.js";

const GAP = 7;
const LEAST = 26; // height of a node: two lines of text
const THIN = 1.5;
const NARROW = 150; // pixels of a label
const SIDES = ["d", "p"]; // what an id begins with: both sides may have a node "others"

/** @typedef {import("./model.js").Item} Item */

export class FlowDiagram {
  /**
   * @param {import("./model.js").TrafficModel} model
   * @param {{order: () => string, live: () => boolean, open: (item: Item, kind: string) => void}} view
   */
  constructor(model, view) {
    this.model = model;
    this.view = view;
    /** @type {Map<string, SVGElement>} */ this.drawn = new Map();
    /** @type {string | null} */ this.current = null;
    this.links = s("g", { class: "links" });
    this.nodes = s("g", { class: "nodes" });
    this.svg = s("svg", { role: "group", "aria-label": "Traffic map: use the arrow keys; the table below has the same figures" }, this.links, this.nodes);
    this.hint = h("div", { class: "hint", hidden: true });
    this.root = h("div", { class: "map" }, this.svg, this.hint);
    this.root.addEventListener("keydown", (event) => this.move(event));
    this.root.addEventListener("focusin", (event) => this.choose(idOf(event)));
    this.root.addEventListener("focusout", () => this.choose(null));
    this.root.addEventListener("pointerover", (event) => this.choose(idOf(event), event));
    this.root.addEventListener("pointerleave", () => this.choose(null));
    this.root.addEventListener("click", (event) => this.open(idOf(event)));
    new ResizeObserver(() => this.draw()).observe(this.root);
  }

  draw() {
    const width = this.root.clientWidth;
    if (!width) return;
    const order = this.view.order();
    const sides = [this.model.nodes("left"), this.model.nodes("right")];
    const label = Math.max(84, Math.min(300, width * 0.3));
    const most = Math.max(...sides.map((side) => side.reduce((sum, node) => sum + size(node, order), 0)), 0);
    const room = Math.max(260, Math.min(720, Math.max(...sides.map((side) => side.length)) * 30));
    const scale = most > 0 ? room / most : 0;
    /** @type {Map<string, {top: number, height: number, used: number}>} */
    const places = new Map();
    const bottom = Math.max(...sides.map((side, right) => stacked(side, SIDES[right], order, scale, places)));
    sides.forEach((side, right) => center(side, SIDES[right], places, bottom));
    set(this.svg, { width, height: bottom, viewBox: `0 0 ${width} ${bottom}` });
    const kept = new Set();
    for (const link of this.model.linksOf()) this.drawLink(link, { order, scale, places, from: label + 10, to: width - label - 10, kept });
    sides.forEach((side, right) => {
      for (const node of side) this.drawNode(node, right === 1, { width, label, places, kept });
    });
    for (const [id, element] of this.drawn) {
      if (!kept.has(id)) {
        element.remove();
        this.drawn.delete(id);
      }
    }
    const first = `d ${this.model.order.left[0]}`;
    const tabbable = this.current && this.drawn.has(this.current) ? this.current : first;
    for (const [id, element] of this.drawn) set(element, { tabindex: id === tabbable ? 0 : -1 });
  }

  /** @param {Item} link @param {any} at */
  drawLink(link, { order, scale, places, from, to, kept }) {
    const [left, right] = [places.get(`d ${link.deployment}`), places.get(`p ${link.peer}`)];
    if (!left || !right) return;
    const thick = Math.max(THIN, size(link, order) * scale);
    const [y, end] = [left.top + left.used + thick / 2, right.top + right.used + thick / 2];
    left.used += thick;
    right.used += thick;
    const id = key(link.deployment, link.peer);
    const [one, other] = [this.model.deployments.get(link.deployment), this.model.peers.get(link.peer)];
    const middle = (from + to) / 2;
    const element = this.element(id, "link", this.links, () => [s("path")]);
    const idle = this.view.live() && !link.transmitRate && !link.receiveRate;
    set(element, {
      class: `link ${tone(one)} ${link.change} ${idle ? "idle" : ""}`,
      "aria-label": `${nameOf(one)} to ${nameOf(other)}: ${figures(link, this.view.live())}`,
    });
    set(/** @type {Element} */ (element.firstElementChild), {
      d: `M${from} ${y.toFixed(1)}C${middle} ${y.toFixed(1)} ${middle} ${end.toFixed(1)} ${to} ${end.toFixed(1)}`,
      "stroke-width": thick.toFixed(1),
    });
    kept.add(id);
  }

  /** @param {Item} node @param {boolean} right @param {any} at */
  drawNode(node, right, { width, label, places, kept }) {
    const id = right ? `p ${node.id}` : `d ${node.id}`;
    const place = places.get(id);
    const element = this.element(id, "node", this.nodes, () => [s("rect", { width: 6, rx: 2 }), s("text", { class: "name" }), s("text", { class: "figure" })]);
    const [bar, title, figure] = /** @type {any} */ (element.children);
    const x = right ? width - label : label;
    const middle = place.top + place.height / 2;
    set(element, { class: `node ${right ? "peer" : tone(node)}`, "aria-label": `${nameOf(node)}: ${figures(node, this.view.live())}` });
    set(bar, { x: right ? x - 10 : x + 4, y: place.top, height: place.height });
    set(title, { x, y: middle - 2, "text-anchor": right ? "start" : "end" });
    set(figure, { x, y: middle + 11, "text-anchor": right ? "start" : "end" });
    put(title, fitted(nameOf(node), label - 8, 7.1));
    put(figure, fitted(short(node, this.view, label < NARROW), label - 8, 6.1));
    kept.add(id);
  }

  /** @param {string} id @param {string} kind @param {Element} parent @param {() => SVGElement[]} make @returns {SVGElement} */
  element(id, kind, parent, make) {
    let element = this.drawn.get(id);
    if (!element) {
      element = s("g", { "data-id": id, "data-kind": kind, role: "link", tabindex: -1 }, make());
      this.drawn.set(id, element);
      parent.append(element);
    }
    return element;
  }

  /** Show what belongs to a node or link, with its figures. @param {string | null} id @param {PointerEvent} [pointer] */
  choose(id, pointer) {
    if (pointer && id === null && document.activeElement && this.root.contains(document.activeElement)) return;
    this.model.held = id !== null;
    if (id !== null) this.current = id;
    const item = id === null ? null : this.itemOf(id);
    for (const [other, element] of this.drawn) element.classList.toggle("dim", item !== null && !this.related(id ?? "", other));
    this.hint.hidden = item === null;
    if (item === null || id === null) return;
    put(this.hint, h("strong", {}, (this.drawn.get(id)?.getAttribute("aria-label") ?? "").split(": ")[0]), details(item, this.view.live()));
    const box = this.root.getBoundingClientRect();
    const target = this.drawn.get(id)?.getBoundingClientRect() ?? box;
    const at = pointer ?? { clientX: target.left + target.width / 2, clientY: target.bottom };
    this.hint.style.left = `${Math.max(4, Math.min(at.clientX - box.left + 14, box.width - this.hint.offsetWidth - 4))}px`;
    this.hint.style.top = `${Math.max(0, at.clientY - box.top + 16)}px`;
  }

  /** Whether `other` is lit while `id` is pointed at. @param {string} id @param {string} other */
  related(id, other) {
    if (id === other) return true;
    const ends = (/** @type {string} */ one) => (/^[dp] /.test(one) ? [one.slice(2)] : one.split(" "));
    const isLink = (/** @type {string} */ one) => !/^[dp] /.test(one);
    if (isLink(id) && isLink(other)) return false;
    if (isLink(id) || isLink(other)) return ends(id).some((end) => ends(other).includes(end) && sideFits(id, other));
    return this.model.links.has(key(ends(id)[0] ?? "", ends(other)[0] ?? "")) || this.model.links.has(key(ends(other)[0] ?? "", ends(id)[0] ?? ""));
  }

  /** @param {string} id @returns {Item | null} */
  itemOf(id) {
    if (id.startsWith("d ")) return this.model.deployments.get(id.slice(2)) ?? null;
    if (id.startsWith("p ")) return this.model.peers.get(id.slice(2)) ?? null;
    return this.model.links.get(id) ?? null;
  }

  /** @param {string | null} id */
  open(id) {
    const item = id === null ? null : this.itemOf(id);
    if (item) this.view.open(item, id?.startsWith("d ") ? "deployment" : id?.startsWith("p ") ? "peer" : "link");
  }

  /** Arrow keys: up and down among nodes or links, left and right to what a node is linked with. @param {KeyboardEvent} event */
  move(event) {
    const id = idOf(event);
    if (id === null) return;
    if (event.key === "Enter") return this.open(id);
    const [left, right] = [this.model.order.left.map((one) => `d ${one}`), this.model.order.right.map((one) => `p ${one}`)];
    const links = this.model.linksOf().map((link) => key(link.deployment, link.peer));
    const column = id.startsWith("d ") ? left : id.startsWith("p ") ? right : links;
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -column.length, End: column.length }[event.key];
    /** @type {string | undefined} */
    let target;
    if (step !== undefined) target = column[Math.max(0, Math.min(column.length - 1, column.indexOf(id) + step))];
    else if (event.key === "ArrowRight") target = column === left ? links.find((one) => one.startsWith(`${id.slice(2)} `)) : column === links ? `p ${id.split(" ")[1]}` : undefined;
    else if (event.key === "ArrowLeft") target = column === right ? links.find((one) => one.endsWith(` ${id.slice(2)}`)) : column === links ? `d ${id.split(" ")[0]}` : undefined;
    if (target === undefined) return;
    event.preventDefault();
    this.drawn.get(target)?.focus();
  }
}

/** @param {Event} event */
function idOf(event) {
  return /** @type {Element} */ (event.target).closest("[data-id]")?.getAttribute("data-id") ?? null;
}

/** A link belongs to a deployment by its first id, to a peer by its second. @param {string} id @param {string} other */
function sideFits(id, other) {
  const [node, link] = /^[dp] /.test(id) ? [id, other] : [other, id];
  return link.split(" ")[node.startsWith("d ") ? 0 : 1] === node.slice(2);
}

/** @param {Item[]} side @param {string | undefined} letter @param {string} order @param {number} scale @param {Map<string, any>} places */
function stacked(side, letter, order, scale, places) {
  let top = 4;
  for (const node of side) {
    const wide = size(node, order) * scale;
    const height = Math.max(LEAST, wide);
    places.set(`${letter} ${node.id}`, { top, height, used: (height - Math.max(wide, THIN)) / 2 });
    top += height + GAP;
  }
  return top;
}

/** Put the shorter side in the middle. @param {Item[]} side @param {string | undefined} letter @param {Map<string, any>} places @param {number} bottom */
function center(side, letter, places, bottom) {
  const last = places.get(`${letter} ${side.at(-1)?.id}`);
  if (!last) return;
  const shift = (bottom - (last.top + last.height + GAP)) / 2;
  for (const node of side) places.get(`${letter} ${node.id}`).top += shift;
}

/** The class of what a node stands for. @param {Item | undefined} node */
export function tone(node) {
  if (!node) return "";
  return node.kind === "unattributed" ? `unattributed ${clean(node.reason, 20).replace(/\W/g, "")}` : (node.kind ?? "peer");
}

/** @param {Item | undefined} node @returns {string} */
export function nameOf(node) {
  if (!node) return "";
  if (node.folded) return `${count(node.folded)} others`;
  if (node.peer !== undefined) return node.peer || "(peer not exported)";
  if (node.kind === "unattributed") return `no deployment (${node.reason})`;
  return node.kind === "pending" ? "pending" : node.name || "(no name)";
}

/** @param {Item} item @param {boolean} live */
function figures(item, live) {
  const now = live && item.receiveRate !== null ? `receives ${rate(item.receiveRate)}, sends ${rate(item.transmitRate)}, ` : "";
  return `${now}${bytes(item.receiveBytes)} received, ${bytes(item.transmitBytes)} sent, ${count(item.openConnections)} open connections`;
}

/** The line below a name. @param {Item} node @param {{order: () => string, live: () => boolean}} view @param {boolean} narrow */
function short(node, view, narrow) {
  const order = view.order();
  if (narrow && order !== "openConnections") return /ate$/.test(order) && view.live() ? rate(size(node, order)) : bytes(size(node, order));
  if (order === "openConnections") return `${count(node.openConnections)} open`;
  if (view.live() && !/ytes$/.test(order) && node.receiveRate !== null) return `↓${rate(node.receiveRate)} ↑${rate(node.transmitRate)}`;
  return `↓${bytes(node.receiveBytes)} ↑${bytes(node.transmitBytes)}`;
}

/** @param {Item} item @param {boolean} live */
function details(item, live) {
  const rows = [["received", live ? rate(item.receiveRate) : null, bytes(item.receiveBytes)], ["sent", live ? rate(item.transmitRate) : null, bytes(item.transmitBytes)]];
  return h(
    "table",
    {},
    rows.map(([word, now, total]) => h("tr", {}, h("th", {}, word), live && h("td", { class: "n" }, now), h("td", { class: "n" }, total))),
    h("tr", {}, h("th", {}, "connections"), h("td", { class: "n", colspan: live ? 2 : 1 }, `${count(item.openConnections)} open of ${count(item.connections)}`)),
    item.change && h("tr", {}, h("th", {}, item.change), h("td", { colspan: 2 }, "against the window before")),
  );
}

/** Text that fits into a width, with an ellipsis. @param {string} text @param {number} width @param {number} each */
function fitted(text, width, each) {
  const shown = clean(text);
  const most = Math.max(3, Math.floor(width / each));
  return shown.length > most ? `${shown.slice(0, most - 1)}…` : shown;
}
