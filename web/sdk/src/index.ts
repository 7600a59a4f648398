// Muster in the browser: the HTTP API, and the realtime session with its rooms.

export type { GoogleStart, SecurityEvent, SignedIn } from "./account.js";
export { Api, directRoom, groupRoom } from "./api.js";
export type {
  ApiOptions,
  Audience,
  Banned,
  DataExport,
  Group,
  GroupMember,
  GroupSummary,
  Invite,
  InviteOptions,
  NewGroup,
  OpenInvite,
  PresenceSettings,
  Profile,
  Role,
  UserPresence,
} from "./api.js";
export { Call, type CallEvents, type CallOptions, type CallPhase } from "./call/call.js";
export { camera, type Captured, fileMusic, microphone, screen, tabMusic } from "./call/capture.js";
export { type DeviceKind, type MediaDevice, mediaDevices, watchDevices } from "./call/devices.js";
export type { RtcOptions } from "./call/platform.js";
export type {
  CallSource,
  CallTrack,
  CallWho,
  Floor,
  GoneReason,
  Grade,
  Hearing,
  IceServer,
  OverReason,
  Participant,
  Quality,
  Sound,
  TrackStats,
} from "./call/types.js";
export type { CallChange, CallRecord, CallSummary, NewCall } from "./communication.js";
export type {
  Conversation,
  ConversationScope,
  ConversationSettings,
  Edition,
  FoundMessage,
  HistoryRange,
} from "./conversations.js";
export type { TransportChoice } from "./connector.js";
export type {
  Balance,
  Balances,
  DebtCircle,
  DebtLine,
  DebtLineKind,
  Explanation,
  GroupWallet,
  NewConversion,
  NewSettlement,
  Party,
  Settlement,
  SettlementMethod,
  SettlementStatus,
  Transfer,
} from "./debts.js";
export { tabDevice } from "./device.js";
export type { Discoverability, FoundUser, Friend, FriendRequest, Person, PublicGroup, PublicUser, Relation } from "./friends.js";
export { MusterError, type Code } from "./errors.js";
export { ExpenseChanged, wallet } from "./expenses.js";
export type { Expense, ExpenseDraft, ExpenseFilter, Share, Split, SplitMode, SplitPart, Stake } from "./expenses.js";
export type {
  Ask,
  Fence,
  FenceShape,
  Grant,
  GrantAudience,
  GrantTerms,
  GroupFences,
  LocationApi,
  NamedUser,
  PastCrossing,
  Precision,
  Receipt,
  ShareLink,
  SharingPerson,
  SharingState,
  TrackRange,
  TrackState,
  Whereabouts,
  Zone,
} from "./location.js";
export type { MatchedPerson, Matches, MatchingProfile, TalkRequest } from "./matching.js";
export { currencies, currencyDigits, decimal, formatMoney, maxAmount, parseDecimal, parseMoney, typedDecimal, typedMoney } from "./money.js";
export type { FormatOptions, Money } from "./money.js";
export type { Notification, NotificationSettings } from "./notifications.js";
export { paymentOver } from "./payments.js";
export type { Payment, PaymentDetails, PaymentStatus, Refund } from "./payments.js";
export type { Rating } from "./rating.js";
export type { EncounterKind, GivenRating, MetPerson, PendingEncounter, RevealedRating } from "./ratings.js";
export type { RecurringDraft, RecurringExpense } from "./recurring.js";
export { reportReasons, type ReportDraft, type ReportReason } from "./reports.js";
export { Room, type FixEvent, type PresenceEvent, type RoomEvents, type UpdateEvent } from "./room.js";
export type { SendOptions, SessionApi, SessionEvents, SessionOptions } from "./options.js";
export { Session } from "./session.js";
export type { SessionState, Status } from "./status.js";
export type { Features, Plan, Subscription, SubscriptionStatus } from "./subscriptions.js";
export { memoryTokens, webTokens, type Tokens, type TokenStore } from "./tokens.js";
export type * from "./types.js";
export type { UploadOptions } from "./uploads.js";
export { View, type ViewCounts, type ViewEvents } from "./view.js";
