// A push service and the browser's part of a subscription: it takes what is pushed
// (RFC 8030), checks who pushes (RFC 8292) and decrypts it (RFC 8291), as browsers do.

import { createDecipheriv, createECDH, createHmac, createPublicKey, randomBytes, verify } from "node:crypto";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";

export interface Pushed {
  payload: string;
  ttl: string;
  topic: string;
  subject: string; // whom to ask about it
}

const hmac = (key: Buffer, ...parts: (Buffer | string)[]) => parts.reduce((h, p) => h.update(p), createHmac("sha256", key)).digest();

export class PushService {
  readonly pushed: Pushed[] = [];
  /** What was refused, and why. */
  readonly problems: string[] = [];
  /** It has forgotten the subscription. */
  gone = false;
  readonly #keys = createECDH("prime256v1");
  readonly #auth = randomBytes(16);
  #server!: Server;

  constructor() {
    this.#keys.generateKeys();
  }

  async start(): Promise<void> {
    this.#server = createServer((req, res) => {
      this.#take(req).then(
        () => res.writeHead(this.gone ? 410 : 201).end(),
        (err: unknown) => {
          this.problems.push(String(err));
          res.writeHead(400).end();
        },
      );
    });
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  get #origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What a browser's PushSubscription says of itself. */
  subscription(): PushSubscriptionJSON {
    return { endpoint: `${this.#origin}/to/me`, keys: { p256dh: this.#keys.getPublicKey().toString("base64url"), auth: this.#auth.toString("base64url") } };
  }

  async #take(req: IncomingMessage): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const c of req) chunks.push(c as Buffer);
    const subject = this.#vapid(req.headers.authorization ?? "");
    if (req.headers["content-encoding"] !== "aes128gcm") throw new Error(`encoding ${req.headers["content-encoding"]}`);
    const payload = this.#decrypt(Buffer.concat(chunks));
    this.pushed.push({ payload, ttl: String(req.headers["ttl"]), topic: String(req.headers["topic"]), subject });
  }

  /** Checks the token of RFC 8292 section 3; returns its subject. */
  #vapid(header: string): string {
    const m = /^vapid t=([^,]+), *k=(.+)$/.exec(header);
    if (!m) throw new Error("no vapid token");
    const [head, claims, signature] = m[1]!.split(".") as [string, string, string];
    const point = Buffer.from(m[2]!, "base64url");
    const jwk = { kty: "EC", crv: "P-256", x: point.subarray(1, 33).toString("base64url"), y: point.subarray(33).toString("base64url") };
    const key = { key: createPublicKey({ key: jwk, format: "jwk" }), dsaEncoding: "ieee-p1363" as const };
    if (!verify("sha256", Buffer.from(`${head}.${claims}`), key, Buffer.from(signature, "base64url"))) throw new Error("bad signature");
    const { aud, exp, sub } = JSON.parse(Buffer.from(claims, "base64url").toString()) as { aud: string; exp: number; sub: string };
    if (aud !== this.#origin) throw new Error(`for ${aud}`);
    if (exp * 1000 < Date.now() || exp * 1000 > Date.now() + 24 * 3_600_000) throw new Error(`expires at ${exp}`);
    return sub;
  }

  #decrypt(body: Buffer): string {
    const salt = body.subarray(0, 16);
    const sender = body.subarray(21, 21 + body[20]!);
    const secret = hmac(this.#auth, this.#keys.computeSecret(sender));
    const input = hmac(secret, "WebPush: info\0", this.#keys.getPublicKey(), sender, Buffer.of(1));
    const key = hmac(salt, input);
    const cek = hmac(key, "Content-Encoding: aes128gcm\0", Buffer.of(1)).subarray(0, 16);
    const nonce = hmac(key, "Content-Encoding: nonce\0", Buffer.of(1)).subarray(0, 12);
    const sealed = body.subarray(21 + sender.length);
    const d = createDecipheriv("aes-128-gcm", cek, nonce);
    d.setAuthTag(sealed.subarray(-16));
    const clear = Buffer.concat([d.update(sealed.subarray(0, -16)), d.final()]);
    return clear.subarray(0, clear.lastIndexOf(2)).toString(); // what follows is padding (RFC 8188 section 2)
  }
}
