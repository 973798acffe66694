// The map view, and the pages of one deployment and one peer: a map of theirs with facts.

import { address, changed, choice, go, mapParameters, windowParameters } from "./address.js";
import { Chart } from "./chart.js";
import { badge, bytes, clock, count, duration, h, name, put, rate, table } from "./dom.js";
import { mapFilters, timeFilter } from "./filters.js";
import { FlowDiagram, nameOf } from "./map.js";
import { TrafficModel } from "./model.js";

const FACTS = 5000; // milliseconds between two looks at a deployment
const MOST = 20; // peers whose health is shown

/** @typedef {import("./model.js").Item} Item */

/** Where a node or link leads. @param {Item} item @param {string} kind */
function target(item, kind) {
  const { from, to } = choice();
  if (item.folded || item.deployment === "others" || item.peer === "others") return changed({ limit: 200 });
  if (kind === "peer" && item.kind !== "pending") return address({ view: "peer", peer: item.peer, from, to });
  if (item.kind === "deployment") return address({ view: "deployment", deployment: item.deployments[0].deploymentId || item.name, from, to });
  return address({ view: "connections", ...owner(item), from, to });
}

/** The node of the flows without a decision, if they are what a peer stands for. @param {TrafficModel} model @param {Item} peer */
function pending(model, peer) {
  const [link] = model.linksOf(peer.id);
  const owner = link && model.deployments.get(link.deployment);
  return owner?.kind === "pending" ? owner : undefined;
}

/** The filter of connections for what a node stands for. @param {Item} node */
function owner(node) {
  if (node.kind === "shared") return { deployment: node.deployments[0].deploymentId, state: "shared" };
  if (node.kind === "deployment") return { deployment: node.deployments[0].deploymentId || node.name };
  return { state: node.kind === "unattributed" ? node.reason : node.kind };
}

/** @param {import("./main.js").Page} page */
export function overview(page) {
  const chosen = choice();
  const kind = ["deployment", "peer"].includes(chosen.view ?? "") ? chosen.view ?? "" : "map";
  const model = new TrafficModel();
  const live = () => model.facts?.live !== false;
  const chart = kind === "map" || chosen.from ? null : new Chart();
  const [facts, bar, summary, list] = [h("div"), h("div"), h("p", { class: "summary", "aria-live": "off" }), h("div")];
  const connectionsOf = (/** @type {Item} */ link) => {
    const [one, other] = [model.deployments.get(link.deployment), model.peers.get(link.peer)];
    if (!one || !other || one.folded || other.folded || one.kind === "pending") return target(other?.folded ? other : (one ?? link), "link");
    return address({ view: "connections", ...owner(one), peer: other.peer, from: chosen.from, to: chosen.to });
  };
  const diagram = new FlowDiagram(model, {
    order: () => (live() ? (chosen.order ?? "rate") : /ytes$|^open/.test(chosen.order ?? "") ? chosen.order ?? "" : "bytes"),
    live,
    open: (item, what) => go(what === "link" ? connectionsOf(item) : target(what === "peer" ? (pending(model, item) ?? item) : item, what)),
  });
  const title = heading(kind, chosen);
  put(page.root, title, facts, bar, summary, diagram.root, chart?.root, list);
  let barred = "";
  const showBar = () => {
    const { known } = page;
    if (barred === JSON.stringify(known) || bar.contains(document.activeElement)) return;
    barred = JSON.stringify(known);
    put(bar, kind === "map" ? mapFilters(known) : h("form", { class: "filters" }, timeFilter(known.history)));
  };
  showBar();

  /** @param {any} event */
  const show = (event) => {
    model.apply(event);
    chart?.add(event.to, event.total);
    page.known = { history: page.history(), namespaces: event.namespaces };
    showBar();
    put(summary, sentence(event, model));
    diagram.draw();
    if (!list.contains(document.activeElement) || !list.firstChild) put(list, links(model, live(), connectionsOf));
  };
  const parameters = mapParameters(kind === "map" ? chosen : { deployment: chosen.deployment ?? "", peer: chosen.peer ?? "", limit: chosen.limit ?? "60" });
  const past = windowParameters(chosen);
  if (past) page.ask("map", { ...parameters, ...past }, show);
  else page.stream({ ...parameters, events: "map,status" }, { map: show });
  if (!past && page.paused) page.ask("map", parameters, show);
  if (kind === "deployment") describe(page, chosen.deployment ?? "", title, facts);
  if (kind === "peer") put(facts, h("p", {}, h("a", { href: address({ view: "connections", peer: chosen.peer, from: chosen.from, to: chosen.to }) }, "Connections with this peer")));
}

/** @param {string} kind @param {import("./address.js").Choice} chosen */
function heading(kind, chosen) {
  if (kind === "map") return h("h1", { class: "hidden" }, "Traffic map");
  return h("h1", {}, h("small", {}, kind === "peer" ? "Peer" : "Deployment"), name((kind === "peer" ? chosen.peer : chosen.deployment) ?? ""));
}

/** What the map shows, in one sentence. @param {any} event @param {TrafficModel} model */
function sentence(event, model) {
  const { total } = event;
  const open = h("span", {}, `${count(total.openConnections)} open connections`);
  if (!model.deployments.size) {
    const filtered = location.search.replace(/[?&]view=\w+/, "") !== "";
    return filtered ? ["No traffic passes the filter. ", h("a", { href: "/" }, "Show all")] : ["No traffic seen yet. ", h("a", { href: "/?view=state" }, "What flowmap reads, and what is degraded")];
  }
  if (event.live) {
    const rates = event.from ? [`Received ${rate(total.receiveRate)}, sent ${rate(total.transmitRate)} between `, clock(event.from), " and ", clock(event.to)] : `Received ${bytes(total.receiveBytes)}, sent ${bytes(total.transmitBytes)} so far; rates follow in some seconds`;
    return [rates, "; ", open, "."];
  }
  const changes = event.links.some((/** @type {Item} */ one) => one.before) && h("strong", {}, ` ${count(event.new)} new and ${count(event.gone)} gone links.`);
  return [`${bytes(total.receiveBytes)} received, ${bytes(total.transmitBytes)} sent by ${count(total.connections)} connections that were open between `, clock(event.from), " and ", clock(event.to), ".", changes];
}

/** The table below the map: the same figures for readers who do not see it. @param {TrafficModel} model @param {boolean} live @param {(link: Item) => string} connectionsOf */
function links(model, live, connectionsOf) {
  const compared = [...model.links.values()].some((link) => link.before);
  const rows = model.linksOf().map((link) => {
    const [one, other] = [model.deployments.get(link.deployment), model.peers.get(link.peer)];
    const state = { deployment: "attributed", unattributed: one?.reason, others: "" }[/** @type {string} */ (one?.kind)] ?? one?.kind;
    return [
      h("a", { href: one ? target(one, "deployment") : "/" }, name(nameOf(one))),
      h("a", { href: one?.kind === "pending" ? target(one, "peer") : other ? target(other, "peer") : "/" }, name(nameOf(other))),
      state && badge(state),
      ...(compared ? [link.change && badge(link.change), bytes(link.before.receiveBytes)] : []),
      ...(live ? [rate(link.receiveRate), rate(link.transmitRate)] : []),
      bytes(link.receiveBytes),
      bytes(link.transmitBytes),
      h("a", { href: connectionsOf(link) }, `${count(live && one?.kind !== "pending" ? link.openConnections : link.connections)}`),
    ];
  });
  const columns = ["Deployment", "Peer", "State", ...(compared ? ["Change", "#Received before"] : []), ...(live ? ["#Receives", "#Sends"] : []), "#Received", "#Sent", "#Connections"];
  return h("details", { open: true }, h("summary", {}, `Links (${rows.length})`), table("Links of the map", columns, rows));
}

/** Facts of a deployment, read again now and then; one that is not known keeps its bare title. @param {import("./main.js").Page} page @param {string} id @param {HTMLElement} title @param {HTMLElement} facts */
function describe(page, id, title, facts) {
  const read = () =>
    page.ask(`deployments/${encodeURIComponent(id)}`, {}, (found) => {
      if (facts.contains(document.activeElement)) return;
      put(title, h("small", {}, "Deployment"), name(found.name || found.deploymentId));
      put(facts, deploymentFacts(found));
    }, (failure) => failure.status === 404);
  read();
  page.every(FACTS, read);
}

/** How well TCP does with each peer, the worst first. @param {any} found */
function health(found) {
  const peers = found.peers.filter((/** @type {any} */ one) => one.health).sort((/** @type {any} */ a, /** @type {any} */ b) => b.health.retransmits - a.health.retransmits || (b.health.roundTripSeconds ?? 0) - (a.health.roundTripSeconds ?? 0));
  const rows = peers.slice(0, MOST).map((/** @type {any} */ one) => [h("a", { href: address({ view: "peer", peer: one.peer }) }, name(one.peer || "(peer not exported)")), count(one.health.retransmits), duration(one.health.roundTripSeconds)]);
  return rows.length ? [h("h2", {}, "Health of TCP"), table("Health of TCP", ["Peer", "#Segments sent again", "#Round trip now"], rows), peers.length > MOST && h("p", { class: "faint" }, `The worst ${MOST} of ${count(peers.length)} peers.`)] : null;
}

/** @param {any} found the answer of /api/v1/deployments/{id} */
function deploymentFacts(found) {
  const jobs = found.jobs.map((/** @type {any} */ job) => [name(job.jobId), badge(job.status), clock(job.startedAt), clock(job.endedAt)]);
  const facts = [
    ["Id", name(found.deploymentId)],
    ["Namespace", name(found.namespace)],
    ["Labels", Object.entries(found.labels).map(([key, value]) => [h("a", { href: address({ label: `${key}=${value}` }) }, h("bdi", {}, `${key}=${value}`)), " "])],
    ["Mode, engine", [found.executionMode, found.engineVersion].filter(Boolean).join(", ")],
    ["Creator", found.creator],
    ["Since the start", `${bytes(found.traffic.receiveBytes)} received, ${bytes(found.traffic.transmitBytes)} sent`],
    ["Connections", h("a", { href: address({ view: "connections", deployment: found.deploymentId }) }, `${count(found.traffic.openConnections)} open of ${count(found.traffic.connections)}`)],
    ["Packages", found.packages.map((/** @type {string} */ one) => h("div", {}, name(one)))],
  ];
  return [
    h("dl", { class: "facts" }, facts.filter(([, value]) => value && (!Array.isArray(value) || value.length)).map(([word, value]) => h("div", {}, h("dt", {}, word), h("dd", {}, value)))),
    jobs.length ? [h("h2", {}, "Jobs"), table("Jobs", ["Job", "Status", "Started", "Ended"], jobs)] : null,
    health(found),
  ];
}

