// Package signingtest makes what the real tools make: certificate chains, Notary
// Project signature envelopes, images, indexes and referrers, and pushes them
// to a registry. It is for tests, benchmarks and the demonstration; its keys
// live in memory and protect nothing.
//
//	ca, err := signingtest.NewCA(signingtest.Options{CommonName: "Example Root"})
//	signer, err := ca.Issue(signingtest.LeafOptions{CommonName: "release"})
//	repo, err := signingtest.Repository(host, "acme/app", client, true)
//	image, err := signingtest.PushImage(ctx, repo, "v1", signingtest.Image{})
//	envelope, err := signer.Sign(ctx, signingtest.SignRequest{Subject: image, Format: signingtest.JWS})
//	_, err = signingtest.PushSignature(ctx, repo, image, signingtest.JWS, envelope)
//
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md
package signingtest
