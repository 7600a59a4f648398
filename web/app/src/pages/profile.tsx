import { useLocation, useRoute } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { type Person, type ReportReason, type RevealedRating, reportReasons } from "@muster/sdk";
import { block } from "../granting.ts";
import { api } from "../live.ts";
import { me } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Stars } from "../ui/stars.tsx";
import { attempt, toast } from "../ui/toast.tsx";
import { Page } from "./page.tsx";
import { AccountForm } from "./sign-in.tsx";

interface Known { readonly person: Person; readonly ratings: readonly RevealedRating[] }

/** Somebody as others see them, with what people who met them gave them. */
export function ProfilePage() {
  const id = useRoute().params["id"] ?? "";
  const { route } = useLocation();
  const [known, setKnown] = useState<Known | undefined>();
  useEffect(() => {
    setKnown(undefined);
    void attempt(async () => {
      const [person, { ratings }] = await Promise.all([api.friends.person(id), api.ratings.of(id)]);
      setKnown({ person, ratings });
    });
  }, [id]);
  const p = known?.person;
  return (
    <Page title="Profile">
      {p && (
        <>
          <div class="row still" data-testid="profile">
            <Avatar user={p.userId} name={p.username} picture={p.profilePicture} me={p.userId === me.value} />
            <span class="grow break"><strong>{p.username}</strong> <Stars rating={p.rating} /></span>
          </div>
          {p.userId !== me.value && (
            <div class="inline">
              <Button kind="primary" data-testid="write" action={async () => route(`/c/${(await api.conversations.open(p.userId)).room}`)}>Write</Button>
              <Button action={async () => { await api.friends.request(p.userId); toast("Asked"); }}>Ask to be friends</Button>
            </div>
          )}
          <Ratings all={known.ratings} />
          {p.userId !== me.value && <Trouble person={p} />}
        </>
      )}
    </Page>
  );
}

function Ratings({ all }: { all: readonly RevealedRating[] }) {
  return (
    <section class="form" aria-label="Ratings">
      <h2 class="section">Ratings</h2>
      {all.length === 0 && <p class="empty small">Nobody who met them has rated them yet.</p>}
      <ul class="items">
        {all.map((r) => (
          <li key={r.ratingId} data-testid="rating">
            <span class="grow break">
              <Stars rating={{ average: r.stars, count: 1, ranking: r.stars }} />
              <small>{r.text}{r.text && " · "}{r.rater ? `${r.rater.username}, ` : ""}{r.day}</small>
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

const reasons: Record<ReportReason, string> = {
  spam: "Spam", harassment: "Harassment", hate: "Hate", sexual: "Sexual content", violence: "Violence",
  child_safety: "Harm to a child", impersonation: "Somebody else's name", other: "Something else",
};

/** Blocking, and telling whoever runs this. */
function Trouble({ person: p }: { person: Person }) {
  const { route } = useLocation();
  const [open, setOpen] = useState(false);
  return (
    <section class="form" aria-label="Trouble">
      <div class="inline">
        <Button kind="quiet" data-testid="block-person" action={async () => { await block(p.userId); route("/people"); }}>Block {p.username}</Button>
        <Button kind="quiet" aria-expanded={open} data-testid="report-person" action={() => setOpen(!open)}>Report…</Button>
      </div>
      {open && (
        <AccountForm testid="report-form" submit="Report" send={async (v) => {
          await api.reports.report({ userId: p.userId }, (v["reason"] ?? "other") as ReportReason, (v["words"] ?? "").trim());
          setOpen(false);
          toast("Thank you. Whoever runs this will look at it");
        }}>
          <div class="field">
            <label for="reason">Why</label>
            <select id="reason" name="reason">{reportReasons.map((r) => <option key={r} value={r}>{reasons[r]}</option>)}</select>
          </div>
          <div class="field">
            <label for="report-words">What happened</label>
            <textarea id="report-words" name="words" maxLength={1000} rows={3} />
          </div>
        </AccountForm>
      )}
    </section>
  );
}
