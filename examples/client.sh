#!/bin/sh
# Asks a served countermeasure about one recording, with curl:  examples/client.sh http://127.0.0.1:5001 speech.flac
set -eu
if [ $# -ne 2 ]; then
  echo "usage: $0 URL RECORDING" >&2
  exit 2
fi
if [ ! -r "$2" ] || [ -d "$2" ]; then
  echo "cannot read $2: expected a recording" >&2
  exit 2
fi
{ printf '{"dataframe_records": [{"audio": "'; base64 < "$2" | tr -d '\n'; printf '"}]}'; } |
  curl --silent --show-error --fail-with-body "$1/invocations" -H "Content-Type: application/json" --data-binary @-
echo
