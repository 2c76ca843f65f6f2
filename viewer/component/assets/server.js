/** Asks the app's server for what belongs to a slide. */

/**
 * The server's answer. token: what the page was given for the slide; it is no part of the address, under which the
 * browser keeps the answer. Throws an Error whose message is the server's own sentence, with the status of the answer.
 */
export async function ask(url, token, options) {
  const response = await fetch(url, { headers: { "Histolake-Token": token }, ...options });
  if (!response.ok) throw Object.assign(new Error(await sentence(response)), { status: response.status });
  return response;
}

/** What the server says is wrong. */
async function sentence(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `The server answered ${response.status}. Is the app still running?`;
  }
}
