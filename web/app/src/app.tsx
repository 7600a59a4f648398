import { LocationProvider, Route, Router } from "preact-iso";
import { CallDock } from "./call/dock.tsx";
import { startProblem } from "./live.ts";
import { AccountPage } from "./pages/account.tsx";
import { ConversationPage } from "./pages/conversation.tsx";
import { ConversationsPage } from "./pages/conversations.tsx";
import { GooglePage } from "./pages/google.tsx";
import { GroupPage } from "./pages/group.tsx";
import { HomePage } from "./pages/home.tsx";
import { JoinPage } from "./pages/join.tsx";
import { LinkPage } from "./pages/link.tsx";
import { MoneyPage } from "./pages/money.tsx";
import { NotificationsPage } from "./pages/notifications.tsx";
import { ForgotPage, ResetPage } from "./pages/password.tsx";
import { PeoplePage } from "./pages/people.tsx";
import { ProfilePage } from "./pages/profile.tsx";
import { RatingsPage } from "./pages/ratings.tsx";
import { TalksPage } from "./pages/talks.tsx";
import { VerifyPage } from "./pages/verify.tsx";
import { account } from "./state.ts";
import { Toast } from "./ui/toast.tsx";

export function App() {
  // Until it is known who this is, no page: it would be the wrong one for a blink.
  return (
    <LocationProvider>
      {account.value === undefined && startProblem.value !== "" && (
        <p class="frame lead" role="status">Muster can't be reached ({startProblem.value}). Trying again…</p>
      )}
      {account.value !== undefined && (
        <Router>
          <Route path="/" component={HomePage} />
          <Route path="/join/:code" component={JoinPage} />
          <Route path="/g/:id" component={GroupPage} />
          <Route path="/g/:id/money" component={MoneyPage} />
          <Route path="/l/:token" component={LinkPage} />
          <Route path="/conversations" component={ConversationsPage} />
          <Route path="/c/:room" component={ConversationPage} />
          <Route path="/people" component={PeoplePage} />
          <Route path="/nearby" component={TalksPage} />
          <Route path="/ratings" component={RatingsPage} />
          <Route path="/u/:id" component={ProfilePage} />
          <Route path="/notifications" component={NotificationsPage} />
          <Route path="/account" component={AccountPage} />
          <Route path="/verify/:token" component={VerifyPage} />
          <Route path="/forgot" component={ForgotPage} />
          <Route path="/reset/:token" component={ResetPage} />
          <Route path="/google" component={GooglePage} />
          <Route default component={HomePage} />
        </Router>
      )}
      <CallDock />
      <Toast />
    </LocationProvider>
  );
}
