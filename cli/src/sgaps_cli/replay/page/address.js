// What is looked at, as the address of the page tells it: a link leads there again.

/** Longer than between two steps: Safari and Firefox refuse an address that is changed too often. */
const REST_MS = 500;

export class Address {
  #told = location.hash;
  #timer = 0;

  /** Tell it once nothing newer was told for a moment. */
  tell(fields) {
    const hash = `#${new URLSearchParams(fields)}`;
    if (hash === this.#told) return;
    this.#told = hash;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#write(), REST_MS);
  }

  #write() {
    try {
      history.replaceState(null, "", this.#told);
    } catch {
      // What is looked at is shown all the same.
    }
    this.#told = location.hash; // the old one where it was refused: whoever tells it again tries again
  }

  /** onLink(URLSearchParams) is called for each link to a recording that is entered while the page is open. */
  listen(onLink) {
    addEventListener("hashchange", ({ newURL }) => {
      clearTimeout(this.#timer);
      this.#told = new URL(newURL).hash;
      const wanted = new URLSearchParams(this.#told.slice(1));
      if (wanted.has("recording")) onLink(wanted); // another one is a place on the page
    });
  }
}
