import { useEffect, useState } from "preact/hooks";
import { durations, here, linkDurations, share, shareByLink } from "../granting.ts";
import { type Level, levels, precisionWords } from "../lib/precision.ts";
import { liveMap } from "../map/map.tsx";
import { shareFor, shareLevel, units } from "../settings.ts";
import { group, me } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Segments } from "../ui/segments.tsx";
import { liveGrants, preview } from "../whereabouts.ts";

/** With whom, how precisely, how long. What would be told is drawn on the map. */
export function ShareForm() {
  const [to, setTo] = useState("group");
  // Strangers are not told what friends are, unless one says so.
  const [forStrangers, setForStrangers] = useState<Level>("r7");
  const level = to === "near" ? forStrangers : shareLevel.value;
  const link = to === "link";
  const offered = link ? linkDurations : durations;
  const chosen = offered.some(([, s]) => String(s) === shareFor.value) ? shareFor.value : "3600";
  const [linkLife, setLinkLife] = useState("3600");
  const id = group.value?.id ?? "";
  const audience = to === "group" ? { kind: "group" as const, id } : to === "near" ? { kind: "discoverable" as const } : { kind: "person" as const, id: to };
  const existing = !link && liveGrants.value.some((g) => g.audience.kind === audience.kind && (audience.id === undefined || g.audience.id === audience.id));

  useEffect(() => {
    preview.value = level;
    return () => void (preview.value = undefined);
  }, [level]);
  const pick = (v: Level) => {
    if (to === "near") setForStrangers(v);
    else shareLevel.value = v;
    const at = here();
    if (at) liveMap.value?.lookAt(at, v);
  };
  const send = () => {
    const terms = { precision: level, expiresIn: Number(link ? linkLife : chosen) };
    return link ? shareByLink(terms) : share(audience, terms);
  };

  return (
    <section class="form share-form" aria-label="Share where you are">
      <h2 class="section">Share where you are</h2>
      <div class="field">
        <label for="share-to">With</label>
        <select id="share-to" data-testid="share-to" value={to} onChange={(e) => setTo(e.currentTarget.value)}>
          <option value="group">Everybody in {group.value?.name ?? "this group"}</option>
          <option value="near">People nearby, also those you don't know</option>
          <option value="link">Whoever has a link</option>
          {group.value?.members.filter((m) => m.user !== me.value).map((m) => <option key={m.user} value={m.user}>Only {m.name}</option>)}
        </select>
      </div>
      <Segments stacked label="How precisely" testid="share-level" value={level} options={levels} pick={pick} />
      <p class="small muted" data-testid="share-words">
        {level === "exact" ? "The very spot, as your device measures it." : `${precisionWords(level, units.value)}: others see the area${here() ? " that is drawn on the map" : ""}, never where in it.`}
      </p>
      {link ? (
        <Segments stacked label="How long" testid="share-for" value={linkLife} options={linkDurations.map(([n, s]) => [String(s), n] as const)} pick={setLinkLife} />
      ) : (
        <Segments stacked label="How long" testid="share-for" value={chosen} options={durations.map(([n, s]) => [String(s) as typeof chosen, n] as const)} pick={(v) => (shareFor.value = v)} />
      )}
      <Button kind="primary" data-testid="share-button" action={send}>{existing ? "Change" : link ? "Make a link" : "Share"}</Button>
    </section>
  );
}
