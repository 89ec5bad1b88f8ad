// Package simulation runs a fleet of replicas in one process under virtual time, and looks for answers that nothing justifies.
//
// A sequence is made of a seed: a world (trust resources, images with their signatures and attestations, settings of the
// replicas), and a list of actions. Actions ask replicas, change trust, registries, plugins and clocks, and break what can break:
// watches that lag, end, go deaf or are refused, an API server that compacts or is away, registries that are down, slow, behind or
// hide what they have, plugins and OCSP responders that fail, CloudEvents that are lost, doubled or late, replicas that crash and
// are rolled out, a server of what replicas share that is away, slow, full, forgetful or hostile. In the end all faults cease, and every replica is asked everything once more.
//
// An answer is judged by [World.judge], which shares no code with the service: it must follow from a state of trust, registry,
// plugin and revocation that was the case no longer ago than [Bounds] allow, and a failure from a fault. [Certificates] does the
// same for the certmanagers, with the elections of their leaders.
package simulation
