// Package grant decides who may see where somebody is, and how precisely, such
// that what is withheld can't be computed from what is shown.
package grant
