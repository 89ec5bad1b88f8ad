package verify

import "testing"

func TestWhomRevocationMayAsk(t *testing.T) {
	for address, allowed := range map[string]bool{
		"93.184.215.14:80": true, "10.1.2.3:8080": true, "127.0.0.1:80": true, "[2001:db8::1]:80": true,
		"169.254.169.254:80": false, "[::ffff:169.254.169.254]:80": false, "[fe80::1%eth0]:80": false, "[fd00:ec2::254]:80": false, "224.0.0.1:80": false,
	} {
		if err := refuseLinkLocal(t.Context(), "tcp", address, nil); (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
	}
}
