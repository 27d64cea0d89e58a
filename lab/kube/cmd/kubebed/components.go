//go:build kubernetes

package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// runComponent becomes the named part of the control plane and returns only when that part has ended. It returns false
// for an unknown name. The arguments are those of the upstream binary of the same name. The parts share one binary
// because they share nearly all their code: four binaries would be four links of more than 100 MB each.
func runComponent(name string, args []string) (code int, known bool) {
	// The upstream commands read os.Args themselves.
	os.Args = append([]string{name}, args...)
	switch name {
	case "etcd":
		etcdmain.Main(os.Args)
		return 0, true
	case "kube-apiserver":
		return cli.Run(apiserver.NewAPIServerCommand()), true
	case "kube-controller-manager":
		return cli.Run(controllermanager.NewControllerManagerCommand()), true
	case "kube-scheduler":
		return cli.Run(scheduler.NewSchedulerCommand()), true
	}
	return 0, false
}
