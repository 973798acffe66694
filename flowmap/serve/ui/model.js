// The map as the page knows it: whole maps and deltas of the stream, in an order that does not jump.

/** @typedef {any} Item a node or link, as /api/v1/map describes it */

const SETTLED = 15000; // milliseconds for which the order stays

export class TrafficModel {
  constructor() {
    /** @type {Map<string, Item>} */ this.deployments = new Map();
    /** @type {Map<string, Item>} */ this.peers = new Map();
    /** @type {Map<string, Item>} */ this.links = new Map();
    /** @type {any} */ this.facts = null;
    /** @type {{left: string[], right: string[]}} */ this.order = { left: [], right: [] };
    this.ordered = 0;
    this.held = false; // while something on the map is pointed at or has the focus
  }

  /** Take a whole map, or an event of the stream. @param {any} event */
  apply(event) {
    const whole = event.whole !== false;
    if (whole) for (const part of [this.deployments, this.peers, this.links]) part.clear();
    for (const one of event.deployments) this.deployments.set(one.id, one);
    for (const one of event.peers) this.peers.set(one.id, one);
    for (const one of event.links) this.links.set(key(one.deployment, one.peer), one);
    for (const [deployment, peer] of event.goneLinks ?? []) this.links.delete(key(deployment, peer));
    const left = event.deploymentIds ?? event.deployments.map((/** @type {Item} */ one) => one.id);
    const right = event.peerIds ?? event.peers.map((/** @type {Item} */ one) => one.id);
    retain(this.deployments, left);
    retain(this.peers, right);
    this.facts = event;
    this.arrange(left, right, whole && !this.order.left.length);
  }

  /**
   * Take the order of the daemon only now and then, and never under the reader's hand: nodes that change places with
   * every update cannot be followed.
   * @param {string[]} left @param {string[]} right @param {boolean} first
   */
  arrange(left, right, first) {
    const now = Date.now();
    if (first || (!this.held && now - this.ordered > SETTLED)) {
      this.order = { left, right };
      this.ordered = now;
    } else {
      this.order = { left: merged(this.order.left, left), right: merged(this.order.right, right) };
    }
  }

  /** Nodes of one side, from top to bottom. @param {"left" | "right"} side @returns {Item[]} */
  nodes(side) {
    const known = side === "left" ? this.deployments : this.peers;
    return this.order[side].map((id) => known.get(id)).filter((one) => one);
  }

  /** Links of a node, or all, from top to bottom on the other side. @param {string} [id] @returns {Item[]} */
  linksOf(id) {
    const [left, right] = [this.order.left, this.order.right].map((side) => new Map(side.map((one, place) => [one, place])));
    return [...this.links.values()]
      .filter((link) => id === undefined || link.deployment === id || link.peer === id)
      .sort((a, b) => (left?.get(a.deployment) ?? 0) - (left?.get(b.deployment) ?? 0) || (right?.get(a.peer) ?? 0) - (right?.get(b.peer) ?? 0));
  }
}

/** @param {string} deployment @param {string} peer */
export function key(deployment, peer) {
  return `${deployment} ${peer}`;
}

/** @param {Map<string, Item>} known @param {string[]} ids */
function retain(known, ids) {
  const kept = new Set(ids);
  for (const id of known.keys()) if (!kept.has(id)) known.delete(id);
}

/** The old order without what is gone; what is new follows, before the nodes that are always last. @param {string[]} old @param {string[]} wanted */
function merged(old, wanted) {
  const present = new Set(wanted);
  const kept = old.filter((id) => present.has(id));
  const seen = new Set(kept);
  wanted.forEach((id, place) => {
    if (!seen.has(id)) kept.splice(Math.min(place, kept.length), 0, id);
  });
  return kept;
}

/** What makes a link wide. @param {Item} item @param {string} order @returns {number} */
export function size(item, order) {
  switch (order) {
    case "transmitRate":
      return item.transmitRate ?? item.transmitBytes;
    case "receiveRate":
      return item.receiveRate ?? item.receiveBytes;
    case "bytes":
      return item.transmitBytes + item.receiveBytes;
    case "transmitBytes":
    case "receiveBytes":
    case "openConnections":
      return item[order];
    default:
      return item.transmitRate === null && item.receiveRate === null ? 0 : (item.transmitRate ?? 0) + (item.receiveRate ?? 0);
  }
}
