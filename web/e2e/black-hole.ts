// A region that is gone without a word, as one page sees it: whatever comes from
// its nodes, or goes there, vanishes. Installed in the page before the app; on
// from the moment when __blackHole names the nodes' addresses.

declare global {
  interface Window {
    /** The hosts that are gone. */
    __blackHole: readonly string[];
  }
}

export function blackHole(): void {
  window.__blackHole = [];
  const gone = (url: string | URL) => window.__blackHole.includes(new URL(url).hostname);
  const never = new Promise<never>(() => {});
  const from = <T>(url: string | URL, s: ReadableStream<T>) =>
    s.pipeThrough(new TransformStream<T, T>({ transform: (chunk, c) => void (gone(url) || c.enqueue(chunk)) }));
  const to = <T>(url: string | URL, s: WritableStream<T>) => {
    const w = s.getWriter();
    return new WritableStream<T>({ write: (chunk) => (gone(url) ? undefined : w.write(chunk)), close: () => w.close(), abort: (e) => w.abort(e) });
  };

  window.WebTransport = class extends WebTransport {
    readonly #url: string | URL;
    readonly #datagrams: unknown;

    constructor(url: string | URL, o?: WebTransportOptions) {
      super(url, o);
      this.#url = url;
      const { readable, writable } = super.datagrams;
      this.#datagrams = { readable: from(url, readable), writable: to(url, writable) };
    }
    override get ready() {
      return gone(this.#url) ? never : super.ready;
    }
    override get closed() {
      return super.closed.then((info) => (gone(this.#url) ? never : info));
    }
    override get datagrams() {
      return this.#datagrams as WebTransportDatagramDuplexStream;
    }
    override async createBidirectionalStream() {
      const { readable, writable } = await super.createBidirectionalStream();
      return { readable: from(this.#url, readable), writable: to(this.#url, writable) } as WebTransportBidirectionalStream;
    }
  };

  window.WebSocket = class extends WebSocket {
    override set onopen(f: ((e: Event) => unknown) | null) {
      super.onopen = (e) => gone(this.url) || f?.call(this, e);
    }
    override set onmessage(f: ((e: MessageEvent) => unknown) | null) {
      super.onmessage = (e) => gone(this.url) || f?.call(this, e);
    }
    override set onclose(f: ((e: CloseEvent) => unknown) | null) {
      super.onclose = (e) => gone(this.url) || f?.call(this, e);
    }
    override send(data: Parameters<WebSocket["send"]>[0]) {
      if (!gone(this.url)) super.send(data);
    }
  } as typeof WebSocket;
}
