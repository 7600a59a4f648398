package main

import "github.com/mustermesh/muster/internal/node"

// GoogleFlags are how the deployment is registered at Google, for those who sign
// in with it.
type GoogleFlags struct {
	GoogleClientID     string `help:"The deployment's client id at Google. Default: nobody signs in with Google." name:"google-client-id" env:"MUSTER_GOOGLE_CLIENT_ID" placeholder:"ID"`
	GoogleClientSecret string `help:"Its secret. Better in the environment than here." name:"google-client-secret" env:"MUSTER_GOOGLE_CLIENT_SECRET" placeholder:"SECRET"`
	GoogleRedirect     string `help:"The app's page to which Google sends people back. Default: google in the app." name:"google-redirect" env:"MUSTER_GOOGLE_REDIRECT" placeholder:"URL"`
	GoogleIssuer       string `help:"Who takes Google's place, for tests." name:"google-issuer" env:"MUSTER_GOOGLE_ISSUER" hidden:"" placeholder:"URL"`
}

func (f GoogleFlags) google() node.GoogleConfig {
	return node.GoogleConfig{ClientID: f.GoogleClientID, ClientSecret: f.GoogleClientSecret, RedirectURL: f.GoogleRedirect, Issuer: f.GoogleIssuer}
}
