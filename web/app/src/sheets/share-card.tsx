import { inviteLink } from "../lib/invite.ts";
import { createInvite, currentCode } from "../live.ts";
import { invites } from "../state.ts";
import { Button, copy } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { showQR } from "./qr.tsx";

const WEEK = 7 * 86_400; // seconds

/** The group's invite, always at hand; larger words while one is alone. */
export function ShareCard({ alone }: { alone: boolean }) {
  const code = currentCode.value;
  if (code === undefined) {
    // Known to be none, rather than not known yet: then the card can make one.
    if (invites.value === undefined) return <section class="share waiting" aria-label="Invite" aria-busy="true" />;
    return (
      <section class="share" aria-label="Invite">
        <div class="share-line">
          <small class="grow">You have no open invite to this group.</small>
          <Button kind="quiet" action={() => createInvite(WEEK)}>Make one</Button>
        </div>
      </section>
    );
  }
  const link = inviteLink(code, location.origin);
  return (
    <section class="share" aria-label="Invite">
      {alone && <p><strong>It's quiet here.</strong> Send the link to friends, or open a second person in another region: under You.</p>}
      <div class="share-line">
        <span class="grow">
          <small>Invite code</small>
          <code data-testid="invite-code">{code}</code>
        </span>
        <Button kind="icon" aria-label="Copy the invite link" title="Copy the invite link" data-testid="copy-link" action={() => copy(link, "Link")}>
          <Icon name="copy" />
        </Button>
        <Button kind="icon" aria-label="Show the invite as QR code" title="Show the invite as QR code" data-testid="show-qr" action={() => showQR(link)}>
          <Icon name="qr" />
        </Button>
      </div>
    </section>
  );
}
