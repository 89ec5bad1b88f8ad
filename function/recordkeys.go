package function

import (
	"context"
	"crypto/x509"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nirmata/kyverno-notation-venafi/core/recordkey"
	"github.com/nirmata/kyverno-notation-venafi/shell/kubeclient"
)

// RecordKeys reads the public keys for decision records that certmanager has published in the cluster of the settings.
func (s Settings) RecordKeys(ctx context.Context) ([]*x509.Certificate, error) {
	client, err := s.Connect()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, kubeclient.RequestTimeout)
	defer cancel()
	configMap, err := client.Core.ConfigMaps(client.Namespace).Get(ctx, s.DecisionKeySecret, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("configmap %s in namespace %s: %w", s.DecisionKeySecret, client.Namespace, err)
	}
	return recordkey.Parse([]byte(configMap.Data[recordkey.PublicKey])), nil
}
