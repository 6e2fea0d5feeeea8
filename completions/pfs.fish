# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pfs_global_optspecs
    string join \n socket= url= token-file= ca-file= client-cert-file= no-shm q/quiet v/verbose color= h/help V/version
end

function __fish_pfs_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pfs_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pfs_using_subcommand
    set -l cmd (__fish_pfs_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pfs -n "__fish_pfs_needs_command" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_needs_command" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_needs_command" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_needs_command" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_needs_command" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_needs_command" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_needs_command" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_needs_command" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_needs_command" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_needs_command" -s V -l version -d 'Print version'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "write" -d 'Append standard input, files or the output of a command to a stream'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "cat" -d 'Print a stream as it grows, or a document'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "create" -d 'Create a stream with buffer sizes and a lifetime of your choice'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "close" -d 'Close streams: no more appends, readers get the end'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "rm" -d 'Remove streams and all their data'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "ls" -d 'List streams'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "stat" -d 'Show the stats of streams, their writers and readers'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "info" -d 'Show the daemon: its version, process, age, and use of its limits'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "status" -d 'Show the daemon: its version, process, age, and use of its limits'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "stop" -d 'Shut the daemon down gracefully, and say what is lost'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "bench" -d 'Measure the throughput or latency of streams on this machine'
complete -c pfs -n "__fish_pfs_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pfs -n "__fish_pfs_using_subcommand write" -l content-type -d 'Media type of a stream that this command creates, such as text/csv or video/mp2t' -r
complete -c pfs -n "__fish_pfs_using_subcommand write" -l header -d 'Header for readers that join later: a file, or a number of first bytes of the input' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand write" -l wait-readers -d 'Begin only when this many readers are attached' -r
complete -c pfs -n "__fish_pfs_using_subcommand write" -l chunk-size -d 'Largest chunk to make; pfs never waits for a chunk to fill' -r
complete -c pfs -n "__fish_pfs_using_subcommand write" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand write" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand write" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand write" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand write" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand write" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand write" -l stream -d 'Append input as it arrives, not at its end as one chunk'
complete -c pfs -n "__fish_pfs_using_subcommand write" -l lines -d 'Append input as it arrives, in whole lines: no line is ever split'
complete -c pfs -n "__fish_pfs_using_subcommand write" -l close -d 'Close the stream at the end of the input'
complete -c pfs -n "__fish_pfs_using_subcommand write" -l replace -d 'Replace an existing stream with a new one, also if it is closed'
complete -c pfs -n "__fish_pfs_using_subcommand write" -l tee -d 'Copy standard input to standard output, too'
complete -c pfs -n "__fish_pfs_using_subcommand write" -l progress -d 'Show progress on standard error in any case'
complete -c pfs -n "__fish_pfs_using_subcommand write" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand write" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand write" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand write" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l tail -d 'Start with the last SIZE bytes' -r
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l since -d 'Start with the oldest chunk that was appended within this time' -r
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l offset -d 'Start at this offset: a size in bytes, counted from the stream\'s creation' -r
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l until -d 'When to end: closed, caught-up, writers-gone, format-change or idle=DURATION' -r
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l slow -d 'Policy when this reader cannot keep up; drop if not given' -r -f -a "drop\t'The reader loses the oldest chunks, and reports which'
block\t'Writers wait for the reader, for limits.max_block_time at most if the daemon sets it'
disconnect\t'The reader is disconnected, and exits with 6'"
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l join -d 'How to join media in the middle: auto, sync or raw' -r -f -a "auto\t'Media: the header, then the stream from an offset where a decoder can start'
sync\t'Also text: from a whole line on; CSV: the first line of the stream, then whole lines'
raw\t'Exactly the bytes of the stream'"
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand cat" -s f -l stream -l follow -d 'Follow a stream; --new, --tail, --since, --offset, --until, --slow and --join imply it'
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l new -d 'Start with what is appended from now on'
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l progress -d 'Show progress on standard error in any case'
complete -c pfs -n "__fish_pfs_using_subcommand cat" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand cat" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand cat" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand cat" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand create" -l ring-buffer-size -d 'How much history a new reader gets' -r
complete -c pfs -n "__fish_pfs_using_subcommand create" -l channel-buffer-size -d 'How far a reader that was at the live edge may lag before it counts as slow' -r
complete -c pfs -n "__fish_pfs_using_subcommand create" -l ttl -d 'Remove the stream when nothing was appended for this long' -r
complete -c pfs -n "__fish_pfs_using_subcommand create" -l content-type -d 'Media type of the contents, told to readers' -r
complete -c pfs -n "__fish_pfs_using_subcommand create" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand create" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand create" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand create" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand create" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand create" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand create" -l reserve -d 'Allocate now all memory that the stream may use, or fail'
complete -c pfs -n "__fish_pfs_using_subcommand create" -l exist-ok -d 'Accept an existing stream, if it is not closed'
complete -c pfs -n "__fish_pfs_using_subcommand create" -l replace -d 'Remove an existing stream, and create the new one in the same step'
complete -c pfs -n "__fish_pfs_using_subcommand create" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand create" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand create" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand close" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand close" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand close" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand close" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand close" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand close" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand close" -l failed -d 'Close them as failed: their data is incomplete'
complete -c pfs -n "__fish_pfs_using_subcommand close" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand close" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand close" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand close" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand rm" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand rm" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand rm" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand rm" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand rm" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand rm" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand rm" -s f -l force -d 'Ignore streams that do not exist'
complete -c pfs -n "__fish_pfs_using_subcommand rm" -s r -l recursive -d 'Remove every stream at or below each path'
complete -c pfs -n "__fish_pfs_using_subcommand rm" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand rm" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand rm" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand ls" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand ls" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand ls" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand ls" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand ls" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand ls" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand ls" -s l -l long -d 'Show state, size, head, writers, readers and age, too'
complete -c pfs -n "__fish_pfs_using_subcommand ls" -l json -d 'Print one JSON object per line'
complete -c pfs -n "__fish_pfs_using_subcommand ls" -s 0 -l null -d 'End each path with a NUL in place of a newline, for xargs -0'
complete -c pfs -n "__fish_pfs_using_subcommand ls" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand ls" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand ls" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand stat" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand stat" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand stat" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand stat" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand stat" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand stat" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand stat" -l json -d 'Print one JSON object per line, one for each stream'
complete -c pfs -n "__fish_pfs_using_subcommand stat" -s w -l watch -d 'Show the stats again every second'
complete -c pfs -n "__fish_pfs_using_subcommand stat" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand stat" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand stat" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand stat" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand info" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand info" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand info" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand info" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand info" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand info" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand info" -l json -d 'Print one JSON object'
complete -c pfs -n "__fish_pfs_using_subcommand info" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand info" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand info" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand info" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand status" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand status" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand status" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand status" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand status" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand status" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand status" -l json -d 'Print one JSON object'
complete -c pfs -n "__fish_pfs_using_subcommand status" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand status" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand status" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand stop" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand stop" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand stop" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand stop" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand stop" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand stop" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand stop" -l if-idle -d 'Stop only if the daemon has no stream and no other client; otherwise exit with 1'
complete -c pfs -n "__fish_pfs_using_subcommand stop" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand stop" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand stop" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l readers -d 'Number of readers' -r
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l writers -d 'Number of writers' -r
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l chunk-size -d 'Size of each chunk, at least 41 bytes' -r
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l size -d 'Bytes that all writers together append, in whole chunks' -r
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l transport -d 'Transport between the daemon and its clients' -r -f -a "shm\t'Through memory shared with the daemon; an error if sharing is impossible'
unix\t'Over connections to the daemon\'s Unix socket'
http\t'Over HTTP, with --url'"
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l slow -d 'Policy when a reader cannot keep up' -r -f -a "drop\t'The reader loses the oldest chunks, and reports which'
block\t'Writers wait for the reader, for limits.max_block_time at most if the daemon sets it'
disconnect\t'The reader is disconnected, and exits with 6'"
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l rate -d 'Append this many chunks per second, all writers together, and report their latency' -r
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l socket -d 'Socket of the daemon, also in PFS_SOCKET; by default, pfs finds a daemon or starts one' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l url -d 'URL of the daemon, in place of a socket, also in PFS_URL' -r -f
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l token-file -d 'File that holds the token for the daemon at the URL, also in PFS_TOKEN_FILE; PFS_TOKEN holds the token itself' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l ca-file -d 'File with certificates (PEM) to trust at the URL besides the system\'s, also in PFS_CA_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l client-cert-file -d 'File with a client certificate and its private key (PEM) to present at the URL, also in PFS_CLIENT_CERT_FILE' -r -F
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l color -d 'When to color messages, help and tables' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l json -d 'Print one JSON object instead of a table'
complete -c pfs -n "__fish_pfs_using_subcommand bench" -l no-shm -d 'Share no memory with the daemon: send and receive every byte over the connection'
complete -c pfs -n "__fish_pfs_using_subcommand bench" -s q -l quiet -d 'Print no messages except errors and losses'
complete -c pfs -n "__fish_pfs_using_subcommand bench" -s v -l verbose -d 'Print what pfs does'
complete -c pfs -n "__fish_pfs_using_subcommand bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "write" -d 'Append standard input, files or the output of a command to a stream'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "cat" -d 'Print a stream as it grows, or a document'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "create" -d 'Create a stream with buffer sizes and a lifetime of your choice'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "close" -d 'Close streams: no more appends, readers get the end'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "rm" -d 'Remove streams and all their data'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "ls" -d 'List streams'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "stat" -d 'Show the stats of streams, their writers and readers'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "info" -d 'Show the daemon: its version, process, age, and use of its limits'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "stop" -d 'Shut the daemon down gracefully, and say what is lost'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "bench" -d 'Measure the throughput or latency of streams on this machine'
complete -c pfs -n "__fish_pfs_using_subcommand help; and not __fish_seen_subcommand_from write cat create close rm ls stat info stop bench help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
