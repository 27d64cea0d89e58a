package migration

// record is what a run that was broken off leaves for the next one: it is written before a configuration is sent, and
// removed when the node is verified or has its former configuration back.
type record struct {
	File   string   `json:"file"`   // The former configuration.
	Sent   string   `json:"sent"`   // The configuration that was sent.
	Before content  `json:"before"` // What the node made of the former one.
	Known  []string `json:"known"`  // The node's problems before.
}

// recordName is the name of the record beside the configurations.
const recordName = ".migration.json"
