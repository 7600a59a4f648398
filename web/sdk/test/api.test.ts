import { expect, test, vi } from "vitest";
import { Api } from "../src/api.js";
import { memoryTokens, webTokens, type Tokens } from "../src/tokens.js";

const signedIn: Tokens = { user: "u1", token: "old", refreshToken: "r1" };
const json = (body: unknown, init: ResponseInit = {}) =>
  new Response(JSON.stringify(body), { ...init, headers: { "content-type": "application/json", ...init.headers } });
const problem = (status: number, code: string, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify({ status, code, detail: "what to do" }), {
    status,
    headers: { "content-type": "application/problem+json", ...headers },
  });

interface Call {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: Record<string, unknown> | undefined;
}

function server(answer: (c: Call) => Response | Promise<Response>, tokens = memoryTokens(signedIn)) {
  const calls: Call[] = [];
  const fetch = vi.fn(async (url: string, init: RequestInit) => {
    const call: Call = {
      method: init.method!,
      path: url.replace("http://x/api/v1", ""),
      headers: init.headers as Record<string, string>,
      body: init.body ? (JSON.parse(init.body as string) as Record<string, unknown>) : undefined,
    };
    calls.push(call);
    return answer(call);
  });
  return { api: new Api({ base: "http://x/", tokens, fetch: fetch as unknown as typeof globalThis.fetch }), calls, tokens };
}

test("an expired token is refreshed once for all who ask, and the calls repeated under their keys", async () => {
  const { api, calls, tokens } = server((c) => {
    if (c.path === "/auth/refresh") return json({ token: "new", refresh_token: "r2" });
    if (c.headers.authorization !== "Bearer new") return problem(401, "token_expired");
    return json({ group_id: "g", invite_code: "i", groups: [] });
  });
  await Promise.all([api.createGroup({ name: "a" }), api.createGroup({ name: "b" }), api.groups(), api.refresh("old")]);
  expect(calls.filter((c) => c.path === "/auth/refresh").map((c) => c.body)).toEqual([{ refresh_token: "r1" }]);
  expect(await tokens.load()).toEqual({ user: "u1", token: "new", refreshToken: "r2" });
  for (const name of ["a", "b"]) {
    const keys = calls.filter((c) => c.body?.name === name).map((c) => c.headers["idempotency-key"]);
    expect(keys).toHaveLength(2);
    expect(keys[0]).toBe(keys[1]);
  }
});

test("what another tab has refreshed is not refreshed again", async () => {
  const { api, calls, tokens } = server(() => problem(500, "internal"));
  await tokens.save({ ...signedIn, token: "newer", refreshToken: "r2" });
  expect(await api.refresh("old")).toBe("newer");
  expect(calls).toEqual([]);
});

test("a refused refresh signs out, an unreachable server doesn't", async () => {
  let down = true;
  const { api, tokens } = server(() => {
    if (down) throw new TypeError("failed to fetch");
    return problem(401, "refresh_reused");
  });
  await expect(api.refresh("old")).rejects.toMatchObject({ code: "network", status: 0 });
  expect(await tokens.load()).toBeDefined();
  down = false;
  await expect(api.refresh("old")).rejects.toMatchObject({ code: "refresh_reused", status: 401 });
  expect(await tokens.load()).toBeUndefined();
  await expect(api.profile()).rejects.toMatchObject({ code: "unauthenticated" });
});

test("problems keep the server's code and when to come back", async () => {
  const { api } = server(() => problem(429, "rate_limited", { "retry-after": "7" }));
  await expect(api.profile()).rejects.toMatchObject({
    code: "rate_limited",
    status: 429,
    message: "what to do",
    retryAfter: 7000,
  });
});

test("a page of HTML from something in between is no answer", async () => {
  const { api } = server(() => new Response("<h1>Bad gateway</h1>", { status: 502, headers: { "content-type": "text/html" } }));
  await expect(api.profile()).rejects.toMatchObject({ code: "internal", status: 502 });
});

test("lists are read to their end, with dates in place of strings", async () => {
  const group = (n: number) => ({ group_id: `g${n}`, name: "n", avatar: "", member_count: n, last_active: "2026-01-02T03:04:05Z" });
  const { api, calls } = server((c) =>
    c.path === "/groups"
      ? json({ groups: [group(1)] }, { headers: { link: '</api/v1/groups?limit=200&cursor=a%20b>; rel="next"' } })
      : json({ groups: [group(2)] }),
  );
  const groups = await api.groups();
  expect(groups.map((g) => [g.groupId, g.memberCount])).toEqual([["g1", 1], ["g2", 2]]);
  expect(groups[0]!.lastActive).toEqual(new Date("2026-01-02T03:04:05Z"));
  expect(calls.map((c) => c.path)).toEqual(["/groups", "/groups?limit=200&cursor=a%20b"]);
});

test("a link to elsewhere is not followed: it would get the token", async () => {
  for (const link of ['<https://evil.example/api/v1/groups>; rel="next"', '</other>; rel="next"', '</api/v1/groups?cursor=x>; rel="prev"']) {
    const { api, calls } = server(() => json({ groups: [] }, { headers: { link } }));
    await api.groups();
    expect(calls).toHaveLength(1);
  }
});

test("who signs out or in meanwhile is not undone by a refresh under way", async () => {
  for (const then of [undefined, { user: "u2", token: "theirs", refreshToken: "r9" }]) {
    for (const answer of [() => json({ token: "new", refresh_token: "r2" }), () => problem(401, "signed_out")]) {
      const tokens = memoryTokens(signedIn);
      const { api } = server(async () => {
        await tokens.save(then);
        return answer();
      }, tokens);
      await expect(api.refresh("old")).rejects.toMatchObject({ status: 401 });
      expect(await tokens.load()).toEqual(then);
    }
  }
});

test("the certificate's hash is bytes", async () => {
  const { api } = server(() =>
    json({ regions: [{ name: "eu", lat: 53, lng: -6, nodes: [{ id: "eu-1", http: "h", ws: "w", wt: "" }] }], cert_sha256: "AQID" }),
  );
  const edge = await api.edge();
  expect(edge.certSha256).toEqual(Uint8Array.of(1, 2, 3));
  expect(edge.regions[0]!.nodes[0]).toEqual({ id: "eu-1", http: "h", ws: "w" });
});

test("how long the list of nodes holds, and how they are, as far as the server says", async () => {
  const node = { id: "eu-1", http: "h", ws: "w" };
  const region = { name: "eu", lat: 53, lng: -6 };
  const { api } = server(() =>
    json({
      regions: [{ ...region, state: "up", load: 0.5, nodes: [{ ...node, state: "draining" }, { ...node, state: "sleepy" }] }, { ...region, nodes: [node] }],
      ttl_s: 30,
    }),
  );
  expect(await api.edge()).toEqual({
    regions: [
      { ...region, state: "up", load: 0.5, nodes: [{ ...node, state: "draining" }, { ...node, state: "unknown" }] },
      { ...region, nodes: [node] },
    ],
    ttl: 30_000,
  });
});

test("signing out forgets the tokens even if the server can't be told", async () => {
  const { api, tokens } = server(() => {
    throw new TypeError("failed to fetch");
  });
  await expect(api.logout()).rejects.toMatchObject({ code: "network" });
  expect(await tokens.load()).toBeUndefined();
});

test("tokens in a Storage survive nonsense in it", () => {
  const kept = new Map<string, string>();
  const storage = {
    getItem: (k: string) => kept.get(k) ?? null,
    setItem: (k: string, v: string) => void kept.set(k, v),
    removeItem: (k: string) => void kept.delete(k),
  } as unknown as Storage;
  const tokens = webTokens(storage);
  void tokens.save(signedIn);
  expect(webTokens(storage).load()).toEqual(signedIn);
  kept.set("muster.tokens", "{");
  expect(tokens.load()).toBeUndefined();
  void tokens.save(undefined);
  expect(kept.size).toBe(0);
});

test("how one wants to be seen, and how others look", async () => {
  const { api, calls } = server((c) => {
    if (c.path === "/users/u2/presence") return json({ state: "offline", last_seen: "2026-11-22T10:00:00Z" });
    if (c.path === "/users/u3/presence") return json({ state: "unknown" });
    return json({ invisible: true, last_seen_audience: "groups", ...c.body });
  });
  expect(await api.presenceSettings()).toEqual({ invisible: true, lastSeenAudience: "groups" });
  expect(await api.updatePresence({ invisible: false })).toEqual({ invisible: false, lastSeenAudience: "groups" });
  expect(await api.updatePresence({ lastSeenAudience: "nobody" })).toEqual({ invisible: true, lastSeenAudience: "nobody" });
  expect(calls.slice(1).map((c) => [c.method, c.path, c.body])).toEqual([
    ["PATCH", "/me/presence", { invisible: false }],
    ["PATCH", "/me/presence", { last_seen_audience: "nobody" }],
  ]);
  expect(await api.userPresence("u2")).toEqual({ state: "offline", lastSeen: new Date("2026-11-22T10:00:00Z") });
  expect(await api.userPresence("u3")).toEqual({ state: "unknown" });
});

test("a track is read page by page, and no further than wanted", async () => {
  const point = (n: number) => ({ coordinates: { lat: n, lng: 10 }, timestamp: "2026-01-02T03:04:05Z", age: 1, precision: "exact" });
  const second = "/location/track/points?limit=2000&cursor=x";
  const { api, calls } = server((c) =>
    c.path === second
      ? json({ points: [point(2)] })
      : json({ points: [point(1)] }, { headers: { link: `</api/v1${second}>; rel="next"` } }),
  );
  const from = new Date("2026-01-02T00:00:00Z");
  const all = await api.location.trackPoints({ from });
  expect([all.points.map((p) => p.point.lat), all.more]).toEqual([[1, 2], false]);
  expect(calls.map((c) => c.path)).toEqual(["/location/track/points?limit=2000&from=2026-01-02T00%3A00%3A00.000Z", second]);
  expect(await api.location.trackPoints({}, 1)).toMatchObject({ points: [{ point: { lat: 1, lng: 10 } }], more: true });
});

test("a track comes as a file, also when the token has expired; what is refused keeps the server's words", async () => {
  let refused = false;
  const { api, calls } = server((c) => {
    if (c.path === "/auth/refresh") return json({ token: "new", refresh_token: "r2" });
    if (c.headers.authorization !== "Bearer new") return problem(401, "token_expired");
    return refused ? problem(429, "rate_limited") : new Response("<gpx/>", { headers: { "content-type": "application/gpx+xml" } });
  });
  const file = await api.location.exportTrack("gpx", { until: new Date("2026-01-02T00:00:00Z") });
  expect([await file.text(), file.type]).toEqual(["<gpx/>", "application/gpx+xml"]);
  expect(calls.at(-1)!.path).toBe("/location/track/export?format=gpx&until=2026-01-02T00%3A00%3A00.000Z");
  refused = true;
  await expect(api.location.exportTrack("geojson")).rejects.toMatchObject({ code: "rate_limited", message: "what to do" });
});

test("conversations: rooms are named in paths as they are, and messages read whole", async () => {
  const direct = "direct:a:b";
  const said = {
    number: 3, id: "m3", sender: "u1", sender_name: "Ana", client_id: "c3", body: "", sent_at: "2026-01-02T03:04:05Z", edited_at: "2026-01-02T03:05:05Z",
    reply_to: 1, mentions: ["u2"], attachments: [{ id: "f", name: "a.png", type: "image/png", size: 9, width: 2, height: 1, thumbnail: true }],
    reactions: [{ emoji: "👍", count: 2, users: ["u2"] }], pinned: true, change: 4,
  };
  const { api, calls } = server((c) => {
    if (c.path.startsWith("/messages/search")) return json({ messages: [{ ...said, room: direct }] }, { headers: { link: '</api/v1/messages/search?q=a%20b&cursor=xyz>; rel="next"' } });
    if (c.path === "/conversations?limit=100") {
      return json({
        conversations: [{ room: direct, writes: false, name: "Bo", picture: "", peer: { user_id: "b", username: "Bo", rating: { average: 4.5, count: 2, ranking: 3.4 } },
          last_message: said, last_number: 3, last_change: 4, read: 1, delivered: 2, unread: 2, receipts: [{ user: "b", delivered: 3, read: 3 }] }],
      });
    }
    return json(said);
  });
  const m = await api.conversations.edit(direct, 3, "new", { ifChange: 4 });
  expect(m).toEqual({
    number: 3, id: "m3", sender: "u1", senderName: "Ana", clientId: "c3", body: "", sentAt: new Date("2026-01-02T03:04:05Z"), editedAt: new Date("2026-01-02T03:05:05Z"),
    replyTo: 1, mentions: ["u2"], attachments: said.attachments, reactions: said.reactions, pinned: true, change: 4,
  });
  await api.conversations.react(direct, 3, "👍", false);
  const [c] = await api.conversations.list();
  expect(c).toMatchObject({ scope: "direct", peer: "b", unread: 2, closed: true, rating: { average: 4.5 }, receipts: [{ user: "b", read: 3 }] });
  expect(await api.conversations.search("a b", { room: direct })).toMatchObject({ messages: [{ room: direct, number: 3 }], cursor: "xyz" });
  expect(calls.map((x) => `${x.method} ${x.path}`)).toEqual([
    "PATCH /conversations/direct%3Aa%3Ab/messages/3",
    "DELETE /conversations/direct%3Aa%3Ab/messages/3/reactions/%F0%9F%91%8D",
    "GET /conversations?limit=100",
    "GET /messages/search?q=a+b&room=direct%3Aa%3Ab",
  ]);
  expect(calls[0]!.body).toEqual({ body: "new", change: 4 });
});
