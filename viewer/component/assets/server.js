/** Asks the app's server for what belongs to a slide. */

const DENIED = 403;

/**
 * The server's answer. token: what the page was given for the slide; it is no part of the address, under which the
 * browser keeps the answer. Throws an Error whose message is the server's own sentence; it tells whether one is denied it.
 */
export async function ask(url, token, options) {
  const response = await fetch(url, { headers: { "Histolake-Token": token }, ...options });
  if (!response.ok) throw Object.assign(new Error(await sentence(response)), { isDenied: response.status === DENIED });
  return response;
}

/** What fetches tiles for OpenSeadragon. token: gives that of the moment. failed: is told of those that do not come. */
export function tileLoader(token, failed) {
  return {
    async downloadTileStart(job) {
      job.userData.abort = new AbortController();
      try {
        const response = await ask(job.src, token(), { signal: job.userData.abort.signal });
        job.finish(await response.blob(), null, "rasterBlob");
      } catch (error) {
        job.fail(error.message, null);
        if (error.name !== "AbortError") failed(error);
      }
    },
    downloadTileAbort: (job) => job.userData.abort.abort(),
  };
}

/** What the server says is wrong. */
async function sentence(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `The server answered ${response.status}. Is the app still running?`;
  }
}
