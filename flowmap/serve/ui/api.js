// Questions to the daemon, and its stream of events.

const RETRY = [1, 2, 4, 8];

/** An answer of the API that is an error, or no answer. */
export class Failure extends Error {
  /** @param {number} status 0: no answer @param {string} detail */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** The JSON at a path. @param {string} path @param {Record<string, any>} [parameters] @param {AbortSignal} [signal] @returns {Promise<any>} */
export async function ask(path, parameters = {}, signal) {
  return (await get(path, parameters, signal)).json();
}

/** @param {string} path @param {Record<string, any>} parameters @param {AbortSignal} [signal] */
async function get(path, parameters, signal) {
  const kept = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(kept.map(([key, value]) => [key, String(value)]));
  let response;
  try {
    // Whole, as a relative address would inherit a user and password from the address bar, which fetch refuses.
    response = await fetch(`${location.origin}/api/v1/${path}?${query}`, { signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure(0, "The daemon does not answer. The page asks again.");
  }
  if (!response.ok) throw new Failure(response.status, await detail(response));
  return response;
}

/** @param {Response} response */
async function detail(response) {
  if (response.status === 401) return "Not signed in, or no longer. Reload the page to sign in.";
  try {
    return (await response.json()).detail;
  } catch {
    return `The daemon answers ${response.status}.`;
  }
}

/**
 * Read events until `signal` aborts; a stream that ends or breaks is opened again. Errors that asking again cannot mend
 * end it.
 * @param {Record<string, any>} parameters
 * @param {{event: (name: string, data: any) => void, failed: (failure: Failure, again: number | null) => void}} reader
 * @param {AbortSignal} signal
 */
export async function follow(parameters, reader, signal) {
  let failures = 0;
  while (!signal.aborted) {
    try {
      const response = await get("stream", parameters, signal);
      await read(response, (name, data) => {
        failures = 0;
        reader.event(name, data);
      });
      continue; // it lasts some minutes at most, so that access is checked again
    } catch (error) {
      if (signal.aborted) return;
      const failure = error instanceof Failure ? error : new Failure(0, "The stream broke off. The page asks again.");
      const again = [0, 429, 502, 503].includes(failure.status) ? RETRY[Math.min(failures++, RETRY.length - 1)] ?? 8 : null;
      reader.failed(failure, again);
      if (again === null) return;
      await pause(again * 1000, signal);
    }
  }
}

/** @param {Response} response @param {(name: string, data: any) => void} event */
async function read(response, event) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = parts.pop() ?? "";
    for (const part of parts) {
      const found = /^event: (\w+)\ndata: (.*)$/s.exec(part);
      if (found) event(found[1] ?? "", JSON.parse(found[2] ?? "null"));
    }
  }
}

/** @param {number} milliseconds @param {AbortSignal} signal */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve(null)), { once: true });
  });
}
