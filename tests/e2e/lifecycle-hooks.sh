#!/bin/bash
# The host's hooks run in order, once each, with the state as it then is on standard input; one that fails or takes too long
# before the start undoes the creation, later ones only warn. What is changed in config.json after create has no effect.
# limit: 300
. "${0%/*}/lib.sh"

cat > "$work/hook" << HOOK
#!/bin/sh
[ -z "\$2" ] || sleep "\$2"
{ printf '%s ' "\$1"; tr -d '\n'; echo " \$HOOK_ENV"; } >> "$work/hooks"
exit "\${3:-0}"
HOOK
chmod +x "$work/hook"
hook() { jq -cn --arg path "$work/hook" '{path: $path, args: (["hook"] + $ARGS.positional), env: ["PATH=/usr/bin:/bin", "HOOK_ENV=set"], timeout: 20}' --args -- "$@"; }
hooks=$(jq -cn '{prestart: [$a, $b], createRuntime: [$c], poststart: [$d], poststop: [$e]}' \
  --argjson a "$(hook prestart-1)" --argjson b "$(hook prestart-2)" --argjson c "$(hook createRuntime)" \
  --argjson d "$(hook poststart)" --argjson e "$(hook poststop)")
bundle_make "$bundle" '.process.args = ["sh", "-c", "echo as created; sleep 1000"] | .hooks = $hooks | .annotations = {"org.example.key": "kept"}' \
  --argjson hooks "$hooks"
husk create --bundle "$bundle" c1 > "$work/out" 2>&1 < /dev/null
equal "hooks at create" "$(cut -d' ' -f1 "$work/hooks" | xargs)" "prestart-1 prestart-2 createRuntime"
jq '.process.args = ["false"] | .hooks = {} | .annotations = {}' "$bundle/config.json" > "$work/changed.json"
mv "$work/changed.json" "$bundle/config.json"
husk start c1
wait_for 30 grep -q "as created" "$work/out" || fail "the program of create did not run: $(cat "$work/out")"
equal "annotations" "$(state_of c1 '.annotations["org.example.key"]')" kept
pid=$(state_of c1 .pid)
husk delete --force c1
equal "all hooks" "$(cut -d' ' -f1 "$work/hooks" | xargs)" "prestart-1 prestart-2 createRuntime poststart poststop"
equal "what they got" "$(sed -E 's/^([^ ]+) (.*) ([^ ]*)$/\2/' "$work/hooks" | jq -r '[.id, .status, .bundle, .annotations["org.example.key"], .pid > 0] | join(" ")')" \
  "$(for status in "creating $bundle kept true" "creating $bundle kept true" "creating $bundle kept true" "running $bundle kept true" "stopped $bundle kept false"; do echo "c1 $status"; done)"
equal "their environment" "$(grep -c ' set$' "$work/hooks")" 5
equal "the pid they got" "$(sed -nE 's/^poststart (.*) [^ ]*$/\1/p' "$work/hooks" | jq .pid)" "$pid"

# From here on a stand-in does for the VM (tests/unit/fake_vmm.c): what counts is the host's side.
fake=$(dirname "$(readlink -f "$(type -P husk)")")/../tests/fake-vmm
mkdir "$work/etc"
printf '%s = %s\n' vmm "$fake" kernel "$fake" initramfs "$fake" > "$work/etc/husk.conf"
fake_husk() { husk --config-dir "$work/etc" "$@"; }

# One that fails or hangs at create: an error that names it, and nothing is left.
bundle_make "$bundle" '.process.args = ["sleep", "1000"] | .hooks = {createRuntime: [$hook]}' --argjson hook "$(hook bad "" 3)"
fails_with 'createRuntime\[0\].*exit status 3' fake_husk create --bundle "$bundle" c1
fails_with 'does not exist' husk state c1
bundle_make "$bundle" '.process.args = ["sleep", "1000"] | .hooks = {prestart: [$hook + {timeout: 1}]}' --argjson hook "$(hook slow 1000)"
fails_with 'prestart\[0\].*timed out' fake_husk create --bundle "$bundle" c1
equal "the hook that hung is gone" "$(pgrep -f "^sleep 1000$" || true)" ""
fails_with 'does not exist' husk state c1

# Later ones warn.
bundle_make "$bundle" '.process.args = ["sleep", "1000"] | .hooks = {poststart: [$hook], poststop: [$hook]}' --argjson hook "$(hook bad "" 4)"
fake_husk run --detach --bundle "$bundle" c1 > /dev/null 2>&1 < /dev/null
equal "status after a poststart hook that failed" "$(state_of c1)" running
fake_husk delete --force c1
matches "the log" "$(cat "$log")" 'poststart\[0\].*exit status 4'
matches "the log" "$(cat "$log")" 'poststop\[0\].*exit status 4'
