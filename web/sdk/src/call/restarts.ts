// When a connection is to be restarted: at once when it failed, and a while after it
// was lost, since that may pass. When restarts don't help it is given up.

const patienceMs = 2000; // with a connection that is only disturbed
const againMs = 4000; // between two restarts
const most = 4;

export class Restarts {
  readonly #restart: () => void;
  readonly #giveUp: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #tries = 0;

  constructor(restart: () => void, giveUp: () => void) {
    this.#restart = restart;
    this.#giveUp = giveUp;
  }

  /** The state of the connection, whenever it changed. */
  state(s: RTCPeerConnectionState): void {
    switch (s) {
      case "connected":
        this.stop();
        this.#tries = 0;
        return;
      case "disconnected":
        this.#in(patienceMs);
        return;
      case "failed":
        this.stop();
        this.#try();
        return;
      case "closed":
        this.stop();
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #in(ms: number): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#try();
    }, ms);
  }

  #try(): void {
    if (this.#tries === most) return this.#giveUp();
    this.#tries++;
    this.#in(againMs);
    this.#restart();
  }
}
