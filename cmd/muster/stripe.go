package main

import "github.com/mustermesh/muster/internal/node"

// StripeFlags are how the deployment is known at Stripe, for those who pay by card.
type StripeFlags struct {
	StripeKey           string `help:"The deployment's secret key at Stripe. Better in the environment than here. Default: nobody pays by card." name:"stripe-key" env:"MUSTER_STRIPE_KEY" placeholder:"KEY"`
	StripeWebhookSecret string `help:"The secret of the webhook's endpoint there, which is /api/v1/payments/webhooks/stripe; several with commas between, while one takes the place of another." name:"stripe-webhook-secret" env:"MUSTER_STRIPE_WEBHOOK_SECRET" placeholder:"SECRET"`
	StripeReturn        string `help:"The app's page to which banks send people back. Default: the app." name:"stripe-return" env:"MUSTER_STRIPE_RETURN" placeholder:"URL"`
	StripeURL           string `help:"Who takes Stripe's place, for tests." name:"stripe-url" env:"MUSTER_STRIPE_URL" hidden:"" placeholder:"URL"`
}

func (f StripeFlags) stripe() node.StripeConfig {
	return node.StripeConfig{Key: f.StripeKey, WebhookSecret: f.StripeWebhookSecret, ReturnURL: f.StripeReturn, URL: f.StripeURL}
}
