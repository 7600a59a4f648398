// What a session description (RFC 8866) is changed in before it is used. Browsers
// have no other way to say these things about Opus (RFC 7587) of one media section.

/** The parameters of Opus that a media section is to have. */
export type OpusParams = Readonly<Record<string, string | number>>;

/** Hi-fi: both sides, no pauses in silence, and enough bits for both. */
export const musicOpus: OpusParams = { stereo: 1, "sprop-stereo": 1, maxaveragebitrate: 192_000, usedtx: 0, useinbandfec: 1 };
/** Speech: repaired from the next packet, and next to nothing in silence. */
export const speechOpus: OpusParams = { useinbandfec: 1, usedtx: 1 };

interface Section {
  lines: string[];
  mid: string;
}

const ending = "\r\n";

/** The first section is the session's own. */
function sections(sdp: string): Section[] {
  const all: Section[] = [{ lines: [], mid: "" }];
  for (const line of sdp.split(/\r?\n/)) {
    if (line === "") continue;
    if (line.startsWith("m=")) all.push({ lines: [], mid: "" });
    const s = all.at(-1)!;
    s.lines.push(line);
    if (line.startsWith("a=mid:")) s.mid = line.slice(6);
  }
  return all;
}

const join = (all: readonly Section[]) => all.flatMap((s) => s.lines).join(ending) + ending;

/** Sets parameters of Opus in the media sections for which `of` gives some. */
export function setOpus(sdp: string, of: (mid: string) => OpusParams | undefined): string {
  const all = sections(sdp);
  for (const s of all) {
    const params = s.mid === "" ? undefined : of(s.mid);
    const type = s.lines.map((l) => /^a=rtpmap:(\d+) opus\//i.exec(l)?.[1]).find((t) => t !== undefined);
    if (!params || type === undefined) continue;
    const prefix = `a=fmtp:${type} `;
    const at = s.lines.findIndex((l) => l.startsWith(prefix));
    const known = new Map(
      (at < 0 ? "" : s.lines[at]!.slice(prefix.length)).split(";").map((p) => p.trim()).filter(Boolean)
        .map((p): [string, string] => [p.split("=")[0]!, p.slice(p.indexOf("=") + 1)]),
    );
    for (const [k, v] of Object.entries(params)) known.set(k, String(v));
    const line = prefix + [...known].map(([k, v]) => `${k}=${v}`).join(";");
    if (at >= 0) s.lines[at] = line;
    else s.lines.splice(s.lines.findIndex((l) => l.startsWith(`a=rtpmap:${type} `)) + 1, 0, line);
  }
  return join(all);
}

/** The media sections in which the other side sends Opus in stereo. */
export function stereoSections(sdp: string): Set<string> {
  const stereo = (l: string) => /^a=fmtp:/.test(l) && /\b(sprop-)?stereo=1\b/.test(l);
  return new Set(sections(sdp).filter((s) => s.lines.some(stereo)).map((s) => s.mid));
}

/** The media sections in which the other side sends, with the id of the media stream (RFC 8830). */
export function sentIn(sdp: string): Map<string, string> {
  const ids = new Map<string, string>();
  for (const s of sections(sdp)) {
    const id = s.lines.map((l) => /^a=msid:(\S+)/.exec(l)?.[1]).find((x) => x !== undefined && x !== "-");
    const quiet = s.lines.some((l) => l === "a=inactive" || l === "a=recvonly");
    const rejected = /^m=\w+ 0 /.test(s.lines[0] ?? "") && !s.lines.includes("a=bundle-only");
    if (s.mid !== "" && id !== undefined && !quiet && !rejected) ids.set(s.mid, id);
  }
  return ids;
}

/** Leaves out candidates over another transport, as a network does that blocks it. */
export const onlyCandidates = (sdp: string, transport: "udp" | "tcp"): string =>
  join(sections(sdp).map((s) => ({ ...s, lines: s.lines.filter((l) => !l.startsWith("a=candidate:") || l.split(" ")[2]?.toLowerCase() === transport) })));
