// Connections: of a link, a deployment, a peer or all; sorted, filtered, page by page.

import { address, changed, choice } from "./address.js";
import { badge, bytes, clean, clock, count, endpoint, h, name, put, table } from "./dom.js";
import { STATES, select, timeFilter, typed } from "./filters.js";
import { go } from "./address.js";

const MOST = 1000; // as many as one answer of the API may have
const PAGE = 50;
const LOCAL = 4; // place of the column of containers, units and processes, left out where none is known
const EVERY = 3000; // milliseconds between two looks

/** @typedef {any} Flow */

/** @type {Record<string, (flow: Flow) => string | number>} */
const KEYS = {
  State: (flow) => flow.state,
  Deployment: (flow) => flow.deployments.map((/** @type {any} */ one) => one.name).join(),
  Client: (flow) => endpoint(flow.client),
  Server: (flow) => endpoint(flow.server),
  "On this host": (flow) => workload(flow.local),
  Protocol: (flow) => flow.protocol,
  Received: (flow) => flow.receiveBytes,
  Sent: (flow) => flow.transmitBytes,
  Started: (flow) => flow.startedAt ?? "",
  Ended: (flow) => flow.endedAt ?? "",
};

/** @param {import("./main.js").Page} page */
export function connections(page) {
  const chosen = choice();
  const bar = h("form", { class: "filters", role: "search", on: { submit: (/** @type {Event} */ event) => event.preventDefault() } });
  const [summary, list] = [h("p", { class: "summary" }), h("div")];
  put(page.root, h("h1", { class: "hidden" }, "Connections"), bar, summary, list);
  put(
    bar,
    typed("Deployment", "deployment", "id or name"),
    typed("Peer", "peer", "name, ip or ip:port"),
    typed("Client", "client", "ip or ip:port"),
    typed("Container", "container", "id or name", { size: 12 }),
    typed("Unit", "unit", "flink.service", { size: 12 }),
    select([["", "All"], ...STATES.map((state) => [state, state])], "State", chosen.state ?? "", (state) => go(changed({ state, page: undefined }))),
    select([["", "All"], ["tcp", "tcp"], ["udp", "udp"]], "Protocol", chosen.protocol ?? "", (protocol) => go(changed({ protocol, page: undefined }))),
    page.history() || chosen.from ? timeFilter(true).slice(0, 2) : null,
  );
  const { deployment, peer, client, container, unit, state, protocol, from, to } = chosen;
  const parameters = { deployment, peer, client, container, unit, state, protocol, from, to, limit: MOST };
  const show = (/** @type {any} */ answer) => {
    const more = answer.nextCursor !== null;
    put(summary, more ? `The first ${count(answer.flows.length)} connections that pass; there are more: narrow the filter.` : `${count(answer.flows.length)} connections.`);
    if (!list.contains(document.activeElement) || document.activeElement?.classList.contains("scroll")) put(list, sorted(answer.flows, chosen.sort ?? "-Received"));
  };
  page.ask("flows", parameters, show);
  if (!from) page.every(EVERY, () => page.ask("flows", parameters, show));
}

/** @param {Flow[]} flows @param {string} sort */
function sorted(flows, sort) {
  const column = sort.replace("-", "");
  const key = KEYS[column] ?? KEYS.Received ?? (() => 0);
  const sign = sort.startsWith("-") ? -1 : 1;
  const order = (/** @type {any} */ a, /** @type {any} */ b) => (a < b ? -1 : a > b ? 1 : 0);
  const all = flows.slice().sort((a, b) => sign * order(key(a), key(b)) || order(endpoint(a.client), endpoint(b.client)));
  const pages = Math.max(1, Math.ceil(all.length / PAGE));
  const current = Math.min(pages, Math.max(1, Number(choice().page) || 1));
  const known = flows.some((flow) => workload(flow.local) || workload(flow.localServer));
  const shown = (/** @type {any[]} */ cells) => cells.filter((_, place) => known || place !== LOCAL);
  const rows = all.slice((current - 1) * PAGE, current * PAGE).map((flow) => shown(row(flow)));
  const columns = ["State", "Deployment", "Client", "Server", "On this host", "Protocol", "#Received", "#Sent", "Started", "Ended", "Why"];
  const link = (/** @type {string} */ plain) =>
    plain === "Why" ? document.createTextNode("Why") : h("a", { href: changed({ sort: sort === `-${plain}` ? plain : `-${plain}`, page: undefined }) }, plain);
  const turn = [current > 1 && h("a", { href: changed({ page: current - 1 }), rel: "prev" }, "Previous"), h("span", {}, `page ${current} of ${pages}`), current < pages && h("a", { href: changed({ page: current + 1 }), rel: "next" }, "Next")];
  return [table("Connections", shown(columns), rows, { sort, link }), pages > 1 && h("nav", { class: "pages", "aria-label": "Pages" }, turn)];
}

/** @param {Flow} flow */
function row(flow) {
  const owners = flow.deployments.map((/** @type {any} */ one, /** @type {number} */ place) => [place > 0 && ", ", h("a", { href: address({ view: "deployment", deployment: one.deploymentId }) }, name(one.name || one.deploymentId))]);
  const guessed = flow.orientation === "guessed" && h("abbr", { title: "Which endpoint opened the connection is a guess." }, " guessed");
  return [badge(flow.state), owners.length ? owners : "–", [endpoint(flow.client), guessed], endpoint(flow.server), [local(flow.local), flow.localServer && [" → ", local(flow.localServer)]], flow.protocol, bytes(flow.receiveBytes), bytes(flow.transmitBytes), clock(flow.startedAt), clock(flow.endedAt), h("a", { href: explainAddress(flow), "aria-label": `Why ${endpoint(flow.client)} is ${flow.state}` }, "Why?")];
}

/** What holds an endpoint, by the name that says most; "" if it is not known. @param {any} held @returns {string} */
function workload(held) {
  const process = held?.command && (held.pid ? `${held.command} (${held.pid})` : held.command);
  return (held && (held.podName ?? held.containerName ?? held.container?.slice(0, 12) ?? held.unit ?? process)) || "";
}

/** The same for the table; all that is known is one hover away. @param {any} held */
function local(held) {
  const words = { namespace: "network namespace", containerName: "container name", podName: "pod name" };
  const parts = Object.entries(held ?? {}).filter(([key, value]) => value && key !== "side").map(([key, value]) => `${words[/** @type {keyof words} */ (key)] ?? key}: ${value}`);
  const title = clean(parts.join("; "), 2000) || null;
  return workload(held) ? h("bdi", { title }, workload(held)) : h("span", { class: "faint", title }, "–");
}

/** @param {Flow} flow */
function explainAddress(flow) {
  const port = (/** @type {number} */ number) => number || undefined;
  return address({ view: "explain", srcIp: flow.client.ip, srcPort: port(flow.client.port), dstIp: flow.server.ip, dstPort: port(flow.server.port), protocol: flow.protocol, netns: flow.netns ?? undefined, at: flow.endedAt ?? undefined });
}
