package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		err  string
	}{
		"least":           {[]string{"--dir", "d", "--nodes", "n"}, ""},
		"no dir":          {[]string{"--nodes", "n"}, "needs --dir"},
		"no nodes":        {[]string{"--dir", "d"}, "needs --dir and --nodes"},
		"argument":        {[]string{"--dir", "d", "--nodes", "n", "x"}, "no arguments"},
		"unknown":         {[]string{"--dri", "d"}, "not defined"},
		"own port":        {[]string{"--dir", "d", "--nodes", "n", "--control", "127.0.0.1:8080"}, ""},
		"other addresses": {[]string{"--dir", "d", "--nodes", "n", "--control", "0.0.0.0:0"}, "not a loopback"},
		"no port":         {[]string{"--dir", "d", "--nodes", "n", "--control", "127.0.0.1"}, "not a loopback"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(tc.args, io.Discard)
			if tc.err == "" && err != nil {
				t.Error(err)
			}
			if tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got %v, want %q", err, tc.err)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"nothing":       {nil, 2, "usage:"},
		"not a command": {[]string{"frobnicate"}, 2, `"frobnicate"`},
		"bad flags":     {[]string{"up"}, 2, "needs --dir"},
		"help":          {[]string{"up", "--help"}, 0, "-start-timeout"},
		"no such file":  {[]string{"up", "--dir", "d", "--nodes", "/does/not/exist"}, 1, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(tc.args, &out, &errs); code != tc.code || !strings.Contains(errs.String(), tc.says) {
				t.Errorf("exit code %d, said %s", code, &errs)
			}
			if out.Len() > 0 {
				t.Errorf("on standard output: %s", &out)
			}
		})
	}
}
