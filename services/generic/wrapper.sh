pid=$1 exit=$2 out=$3 err=$4 log=$5 script=$6
shift 6
trap : TERM INT # stay to tell how the script ended
echo $$ > "$pid"
bash "$script" "$@" < /dev/null \
	> >(trap '' TERM INT; exec tee -a "$log" >> "$out") \
	2> >(trap '' TERM INT; exec tee -a "$log" >> "$err")
code=$?
echo "$code" > "$exit.new" && mv "$exit.new" "$exit"
exit "$code"
