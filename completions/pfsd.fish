complete -c pfsd -l config -d 'Read the configuration from this file (TOML)' -r -F
complete -c pfsd -l socket -d 'Serve on this Unix socket' -r -F
complete -c pfsd -l http -d 'Serve HTTP on this address, such as 127.0.0.1:4437' -r
complete -c pfsd -l mount -d 'Mount the streams of another daemon: /edge=http://HOST:4437/streamfs' -r
complete -c pfsd -l log -d 'Log filter: off, error, warn, info, debug or trace, or levels of targets: info,requests=off' -r
complete -c pfsd -l log-format -d 'Format of the log on stderr' -r -f -a "text\t'Lines for people'
json\t'One JSON object per line'"
complete -c pfsd -l check-config -d 'Check the configuration, print the result and exit with 0 or 1'
complete -c pfsd -l reload -d 'Have the running daemon reload tokens, certificates and limits, print the outcome and exit with 0 or 1'
complete -c pfsd -l autostarted -d 'Set by `pfs` when it starts a daemon: the daemon keeps no directory in use, and exits when no client uses it'
complete -c pfsd -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfsd -s V -l version -d 'Print version'
