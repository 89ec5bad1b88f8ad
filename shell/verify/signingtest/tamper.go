package signingtest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/veraison/go-cose"
)

// Tamper returns the envelope with its payload changed after the signature was
// made: it still speaks of the same artifact, but with an annotation more. Only
// a check of the signature itself can tell.
func Tamper(envelope []byte, mediaType string) ([]byte, error) {
	return changePayload(envelope, mediaType, func(artifact *ocispec.Descriptor) {
		artifact.Annotations = map[string]string{"tampered": "true"}
	})
}

// Retarget returns the envelope with its payload changed to speak of another
// artifact, as an attacker would who has a signature and wants it elsewhere.
func Retarget(envelope []byte, mediaType string, subject ocispec.Descriptor) ([]byte, error) {
	return changePayload(envelope, mediaType, func(artifact *ocispec.Descriptor) { *artifact = subject })
}

// changePayload changes the signed descriptor and keeps everything else.
func changePayload(envelope []byte, mediaType string, change func(*ocispec.Descriptor)) ([]byte, error) {
	changeEnvelope := changeJWS
	if mediaType == COSE {
		changeEnvelope = changeCOSE
	}
	changed, err := changeEnvelope(envelope, func(payload []byte) ([]byte, error) {
		var signed struct {
			TargetArtifact ocispec.Descriptor `json:"targetArtifact"`
		}
		if err := json.Unmarshal(payload, &signed); err != nil {
			return nil, err
		}
		change(&signed.TargetArtifact)
		return json.Marshal(signed)
	})
	if err != nil {
		return nil, fmt.Errorf("change the payload of a signature of type %s: %w", mediaType, err)
	}
	return changed, nil
}

// changeJWS changes the payload of a JWS in the flattened JSON serialization,
// RFC 7515 section 7.2.2.
func changeJWS(envelope []byte, change func([]byte) ([]byte, error)) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(envelope, &members); err != nil {
		return nil, err
	}
	var encoded string
	if err := json.Unmarshal(members["payload"], &encoded); err != nil {
		return nil, err
	}
	payload, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return nil, err
	}
	if payload, err = change(payload); err != nil {
		return nil, err
	}
	if members["payload"], err = json.Marshal(base64.RawURLEncoding.EncodeToString(payload)); err != nil {
		return nil, err
	}
	return json.Marshal(members)
}

// changeCOSE changes the payload of a COSE_Sign1 message, RFC 9052 section 4.2.
func changeCOSE(envelope []byte, change func([]byte) ([]byte, error)) ([]byte, error) {
	var message cose.Sign1Message
	if err := message.UnmarshalCBOR(envelope); err != nil {
		return nil, err
	}
	payload, err := change(message.Payload)
	if err != nil {
		return nil, err
	}
	message.Payload = payload
	return message.MarshalCBOR()
}
