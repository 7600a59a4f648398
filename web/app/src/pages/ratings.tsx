import { useEffect, useState } from "preact/hooks";
import type { MetPerson, PendingEncounter } from "@muster/sdk";
import { api } from "../live.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Stars, StarPicker } from "../ui/stars.tsx";
import { attempt, toast } from "../ui/toast.tsx";
import { Page } from "./page.tsx";
import { AccountForm } from "./sign-in.tsx";

const kinds = { nearby: "You talked nearby", booking: "You had a booking", hangout: "You met", direct: "You talked" } as const;
const day = (d: Date | undefined) => d?.toLocaleDateString(undefined, { day: "numeric", month: "long" }) ?? "";

/** Whom the user met, to rate them. */
export function RatingsPage() {
  const [all, setAll] = useState<readonly PendingEncounter[] | undefined>();
  const load = async () => setAll(await api.ratings.pending());
  useEffect(() => void attempt(load), []);
  return (
    <Page title="How was it?">
      <p class="small muted">Nobody sees what you give before they have rated you, too, or the time is over. Then both are seen at once.</p>
      {all?.length === 0 && <p class="empty small">There is nobody to rate. After a talk nearby you find the other one here.</p>}
      {all?.map((e) => e.people.map((p) => <Rate key={e.encounterId + p.userId} encounter={e} person={p} done={load} />))}
    </Page>
  );
}

function Rate({ encounter: e, person: p, done }: { encounter: PendingEncounter; person: MetPerson; done: () => Promise<void> }) {
  const [stars, setStars] = useState(p.mine?.stars ?? 0);
  return (
    <section class="card" aria-label={`Rate ${p.username}`} data-testid={`rate-${p.username}`}>
      <div class="row still">
        <Avatar user={p.userId} name={p.username} picture={p.profilePicture} />
        <a class="grow break" href={`/u/${p.userId}`}><strong>{p.username}</strong><small>{kinds[e.kind]}, {day(e.at)} · until {day(e.until)}</small></a>
      </div>
      {p.mine?.revealed ? <Given stars={p.mine.stars} text={p.mine.text} /> : (
        <AccountForm testid="rate-form" submit={p.mine ? "Change it" : "Rate"} send={async (v) => {
          if (stars === 0) throw new Error("Choose how many stars.");
          const given = await api.ratings.rate(e.encounterId, p.userId, stars, (v["words"] ?? "").trim());
          if (given.revealed) toast("You both have rated: you see what you gave each other on your profiles");
          await done();
        }}>
          <StarPicker name="Stars" value={stars} pick={setStars} />
          <div class="field">
            <label for={`words-${e.encounterId}`}>In words</label>
            <textarea id={`words-${e.encounterId}`} name="words" maxLength={1000} rows={2} defaultValue={p.mine?.text ?? ""} data-testid="rate-words" />
          </div>
          {p.mine && <p class="small" role="status" data-testid="rated">You gave {p.mine.stars} of 5. It is not shown yet.</p>}
        </AccountForm>
      )}
    </section>
  );
}

function Given({ stars, text }: { stars: number; text: string }) {
  return <p class="small" data-testid="rated">You gave <Stars rating={{ average: stars, count: 1, ranking: stars }} />{text && `: ${text}`}</p>;
}
