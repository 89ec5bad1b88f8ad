// Package signing makes what the real tools make: certificate chains, Notary
// Project signature envelopes, images, indexes and referrers, and pushes them
// to a registry. It is for tests, benchmarks and the demonstration; its keys
// live in memory and protect nothing.
//
//	ca, err := signing.NewCA(signing.Options{CommonName: "Example Root"})
//	signer, err := ca.Issue(signing.LeafOptions{CommonName: "release"})
//	repo, err := signing.Repository(host, "acme/app", client, true)
//	image, err := signing.PushImage(ctx, repo, "v1", signing.Image{})
//	envelope, err := signer.Sign(ctx, signing.SignRequest{Subject: image, Format: signing.JWS})
//	_, err = signing.PushSignature(ctx, repo, image, signing.JWS, envelope)
//
// https://github.com/notaryproject/specifications/blob/v1.1.0/specs/signature-specification.md
package signing
