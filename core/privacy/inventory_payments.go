package privacy

// aboutPayments are what people paid by a gateway. That it was paid stays, by ids alone,
// as it does in the books; how, the gateway is told to forget.
var aboutPayments = []table{
	{
		name:   "payment_events",
		keep:   map[string][]string{random: cols("event_id", "payment_id"), technics: cols("gateway", "kind")},
		hidden: forWork,
	},
	{
		name:   "payment_history",
		keep:   map[string][]string{random: cols("payment_id"), technics: cols("status", "reason", "source")},
		export: `SELECT h.payment_id, h.status, h.refunded, h.reason, h.at FROM payment_history h JOIN payments p ON p.id = h.payment_id WHERE p.user_id = $1 ORDER BY h.at, h.version`,
	},
	{
		name: "payment_refunds",
		keep: map[string][]string{inBooks: cols("by_user"), random: cols("id", "payment_id", "gateway_id"), technics: cols("status", "reason")},
		export: `SELECT r.id, r.payment_id, r.amount, r.status, r.created_at FROM payment_refunds r JOIN payments p ON p.id = r.payment_id
			WHERE p.user_id = $1 OR p.to_user = $1 ORDER BY r.created_at, r.id`,
	},
	{
		name: "payments",
		// One that is under way is stopped, if it still can be.
		steps: []step{{columns: cols("method", "customer_id"), do: anonymise, sql: `UPDATE payments SET method = '', customer_id = '', stop = true, version = version + 1 WHERE user_id = $1`}},
		keep: map[string][]string{
			inBooks: cols("user_id", "to_user"), random: cols("id", "ref", "gateway_id"), technics: cols("kind", "currency", "gateway", "phase", "status", "reason"),
		},
		export: `SELECT id, user_id, to_user, kind, ref, amount, currency, method, status, reason, refunded, created_at FROM payments
			WHERE user_id = $1 OR to_user = $1 AND status IN ('succeeded', 'refunded') ORDER BY created_at, id`,
	},
	{
		name: "payment_customers",
		steps: []step{
			{columns: cols("user_id"), do: anonymise, sql: `UPDATE payment_customers SET user_id = NULL WHERE user_id = $1`},
			{columns: cols("customer_id"), do: erase, by: "the sweep of core/payments, once the gateway has forgotten them"},
		},
		keep:   map[string][]string{technics: cols("gateway")},
		hidden: noSecrets,
	},
}
