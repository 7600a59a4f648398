// Which pictures are wanted, and how big they are shown: what was said to the server,
// and what is to be said. Pure. What nobody looks at is wanted with height 0.

export class Wants {
  readonly #wanted = new Map<string, number>(); // pixels by media key
  #said = new Map<string, number>(); // by track id

  /** Height in pixels that somebody's picture is shown at; 0: not at all. */
  set(key: string, height: number): void {
    this.#wanted.set(key, Math.round(Math.max(0, height)));
  }

  /** What is new to say of the pictures that there are: their track ids by media key. */
  news(tracks: ReadonlyMap<string, string>): { track: string; height: number }[] {
    const said = new Map<string, number>();
    const news: { track: string; height: number }[] = [];
    for (const [track, key] of tracks) {
      const height = this.#wanted.get(key) ?? 0;
      if (this.#said.get(track) !== height) news.push({ track, height });
      said.set(track, height);
    }
    this.#said = said;
    return news;
  }

  /** The server knows nothing of it any more. */
  forget(): void {
    this.#said = new Map();
  }
}
