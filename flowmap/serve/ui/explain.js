// Why one connection has its name: what was seen, asked and answered, which rule counts, and until when.

import { address, choice } from "./address.js";
import { badge, bytes, clock, duration, endpoint, h, name, put } from "./dom.js";

const ANSWERS = 4;

/** What a question asks, as a person would say it. @type {Record<string, string>} */
const MEANING = {
  client: "Which deployments run at the client?",
  sink: "Which deployments write to the service?",
  source: "Which deployments read from the service?",
  link: "Which deployments are at both endpoints?",
  exact: "Which deployment has exactly this connection?",
  host: "Which deployments run at the service?",
};
/** @type {Record<string, string>} */
const RULES = {
  inside: "it was asked and answered while the connection was open",
  around: "equal answers before and after its start confirm it",
  grace: "it arrived within attribute.grace of its start or end",
  fast: "attribute.confirm is fast: the newest answer counts",
  assumed: "today's answer is taken for that time",
  unconfirmed: "no answer can cover the connection any more",
};

/** Where an answer lies in time. @type {Record<string, string>} */
const RELATIONS = {
  before: "before the connection began",
  inside: "while the connection was open",
  after: "after the connection ended",
  uncertain: "near its start or end, or not yet known to be open then",
};

/** @param {import("./main.js").Page} page */
export function explain(page) {
  const { srcIp, srcPort, dstIp, dstPort, protocol, netns, at } = choice();
  const asked = { srcIp, srcPort, dstIp, dstPort, protocol, netns };
  const body = h("div");
  put(page.root, h("h1", {}, h("small", {}, "Why this name?"), `${ends(srcIp, srcPort)} → ${ends(dstIp, dstPort)}`), body);
  page.ask("attribution", { ...asked, explain: 1 }, (found) => put(body, chain(found, asked)), (failure) => {
    if (failure.status !== 400 || !at) return false;
    page.ask("attribution", { ...asked, at }, (found) => put(body, chain(found, asked)));
    return true;
  });
}

/** @param {string | undefined} ip @param {string | undefined} port */
function ends(ip, port) {
  return endpoint({ ip: ip ?? "?", port: Number(port) || 0 });
}

/** @param {any} found @param {Record<string, any>} asked */
function chain(found, asked) {
  const { explanation: why, flow } = found;
  const steps = why ? [seen(why, flow), ...why.questions.map((/** @type {any} */ one) => question(one, Boolean(why.decidedAt))), combined(why, found)] : [h("li", {}, h("h2", {}, "Asked"), found.evidence.map(evidence))];
  return [
    result(found),
    h("ol", { class: "chain" }, steps),
    h("p", {}, h("a", { href: `/api/v1/attribution?${new URLSearchParams(Object.entries({ ...asked, explain: "1" }).filter(([, value]) => value))}` }, "Raw answer (JSON)")),
    h("details", {}, h("summary", {}, "Raw answer here"), rawText(found)),
  ];
}

/** @param {any} found */
function rawText(found) {
  const raw = h("pre", { tabindex: "0" });
  raw.textContent = JSON.stringify(found, null, 2);
  return raw;
}

/** @param {any} found */
function result(found) {
  const owners = found.deployments.map((/** @type {any} */ one) =>
    h("li", {}, h("a", { href: address({ view: "deployment", deployment: one.deploymentId }) }, name(one.name || one.deploymentId)), one.jobs.map((/** @type {any} */ job) => [" ", badge(job.status), " ", h("bdi", {}, job.jobId)])),
  );
  return h("section", { class: "result" }, h("p", {}, badge(found.state), " ", found.cause), owners.length ? h("ul", {}, owners) : null);
}

/** @param {any} why @param {any} flow */
function seen(why, flow) {
  const { life } = why;
  return h(
    "li",
    {},
    h("h2", {}, "Seen"),
    h("p", {}, `By ${why.seenBy.join(" and ")}: client ${endpoint(why.client)} opened a connection to ${endpoint(why.service)} (direction: ${why.orientation}).`, why.endpointReason && ` Asked about: ${why.endpointReason}.`),
    h("p", {}, "It began ", life.startedAfter ? ["between ", clock(life.startedAfter, true), " and "] : "before ", clock(life.startedBy, true), life.endedBy ? [" and ended by ", clock(life.endedBy, true)] : [" and was open at ", clock(life.openUntil, true)], "."),
    flow && h("p", {}, `${bytes(flow.receiveBytes)} received, ${bytes(flow.transmitBytes)} sent.`),
  );
}

/** @param {any} one @param {boolean} [decided] */
function question(one, decided = false) {
  const subject = [one.source && `srcIp ${endpoint(one.source)}`, one.destination && `dstIp ${endpoint(one.destination)}`].filter(Boolean).join(", ");
  const latest = one.answers.slice(-ANSWERS);
  const shown = one.answers.filter((/** @type {any} */ answer) => answer.decisive && !latest.includes(answer)).concat(latest);
  const verdict = one.rule ? ["Counts as ", owners(one.owners), `: ${RULES[one.rule] ?? one.rule} (${one.rule}).`] : decided ? "The decision does not use it." : "It waits for an answer that covers the connection.";
  return h(
    "li",
    { class: one.rule ? null : "unused" },
    h("h2", {}, `Asked: ${MEANING[one.shape] ?? one.shape}`),
    h("p", { class: "faint" }, `${one.shape} question: ${subject} in `, name(one.namespace)),
    h("ul", {}, shown.map(answer), one.answers.length === 0 && h("li", {}, one.error ? `No answer: ${one.error}` : decided ? "No answer was needed." : "Not answered yet.")),
    h("p", {}, verdict, one.confirmedUntil && [" The same answers from ", clock(one.confirmedFrom), " until ", clock(one.confirmedUntil), "."]),
  );
}

/** @param {any} one */
function answer(one) {
  const took = (Date.parse(one.answeredAt) - Date.parse(one.askedAt)) / 1000;
  return h("li", { class: one.decisive ? "decisive" : null }, clock(one.answeredAt, true), ` after ${duration(took)}: `, owners(one.owners), ` – ${RELATIONS[one.relation] ?? one.relation}`, one.decisive && "; decisive");
}

/** @param {any} one */
function evidence(one) {
  return h("p", {}, `${MEANING[one.shape] ?? one.shape} `, one.answeredAt ? [clock(one.answeredAt, true), ": ", owners(one.owners)] : [owners(one.owners), one.error && ` (${one.error})`], ` (${one.origin}${one.rule && `, ${one.rule}`})`);
}

/** @param {any[]} list */
function owners(list) {
  return list.length ? list.map((one, place) => [place > 0 && ", ", name(one.name || one.deploymentId)]) : "no deployment";
}

/** @param {any} why @param {any} found */
function combined(why, found) {
  return h("li", {}, h("h2", {}, "Combined"), h("p", {}, h("code", {}, why.combination)), h("p", {}, why.decidedAt ? ["Decided at ", clock(why.decidedAt, true), ": ", badge(found.state)] : "Not decided yet."), why.jobs && h("p", {}, `Jobs: ${why.jobs}`));
}
