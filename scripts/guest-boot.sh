#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# guest-boot.sh NAME VARIANT MODE [WORD...]: boot the kernel VARIANT with the
# guest's init in MODE (see scripts/guest/init) and WORDs on its command line.
# What the programs print is shown and kept in build/log/NAME.out, the kernel
# log goes to build/log/NAME.kernel.log.  Fails unless the guest came to its
# end in time, all programs ended well and the kernel had nothing to complain
# about.
#
# From the environment:
#   TIMEOUT   seconds until the guest counts as hung
#   SHOW      extended regular expression of the lines to show, all by default
#   NPUS      how many accelerators the machine has, 2 by default
#   NPU_OPTS  further properties of each of them, ",name=value..."
#   MORE      an archive that is unpacked over the guest's image
#   MEMORY    of the machine, 2G by default and more for kernels with checkers
#   MACHINE   further arguments of QEMU, words with spaces between them
set -eu
. "$(dirname "$0")/lib.sh"

NAME=$1
VARIANT=$2
MODE=$3
shift 3

KERNEL=$BUILD/kernel/$VARIANT/arch/x86/boot/bzImage
IMAGE=$BUILD/guest/$VARIANT.cpio.gz
QEMU=${QEMU:-$BUILD/qemu/qemu-system-x86_64}
OUT=$LOG/$NAME.out
KLOG=$LOG/$NAME.kernel.log
TIMEOUT=${TIMEOUT:-1800}
SHOW=${SHOW:-}
NPUS=${NPUS:-2}

[ -x "$QEMU" ] || die "no QEMU at $QEMU"
if [ -n "${MORE:-}" ]; then
	cat "$IMAGE" "$MORE" > "$MORE.all"
	IMAGE=$MORE.all
fi

memory=${MEMORY:-2G}
accel=(-accel 'tcg,thread=multi' -smp 2)
# An emulated processor that has to wait for the host's finds its timer broken.
append=(console=ttyS0 panic=-1 no_timer_check "guest.mode=$MODE")
case $VARIANT in
debug)
	memory=${MEMORY:-3G}
	append+=(panic_on_warn=1 page_poison=1 debug_pagealloc=on
		guest.timeout=900)
	;;
# No panic_on_warn: there are data races in other people's code.
kcsan)	append+=(guest.timeout=900) ;;
esac
case ${ACCEL:-tcg} in
tcg) ;;
kvm) accel=(-accel kvm -smp 2) ;;
# One instruction is one nanosecond; time does not depend on the host.
icount)
	accel=(-accel 'tcg,thread=single' -icount 'shift=0,sleep=off' -smp 1
		-rtc 'base=2020-01-01,clock=vm')
	# Nor on chance.
	append+=(norandmaps random.trust_bootloader=off)
	;;
*) die "ACCEL is tcg or kvm" ;;
esac
# The last one of a name counts.
append+=("$@")

command=("$QEMU" -machine "q35,kernel-irqchip=split" "${accel[@]}" -m "$memory"
	-nodefaults -no-user-config -no-reboot -display none
	-L /usr/share/qemu -L /usr/share/seabios
	-device 'intel-iommu,intremap=on,device-iotlb=on'
	-kernel "$KERNEL" -initrd "$IMAGE" -append "${append[*]}"
	-serial "file:$KLOG")
read -ra machine <<< "${MACHINE:-}"
command+=("${machine[@]}")
if "$QEMU" -device help 2>&1 | grep -q '^name "gmem-npu"'; then
	for ((i = 0; i < NPUS; i++)); do
		command+=(-device "gmem-npu,id=npu$i${NPU_OPTS:-}")
	done
else
	say NOTE "this QEMU has no gmem-npu device"
fi

rm -f "$OUT" "$KLOG"
if [ "$MODE" = shell ]; then
	say BOOT "$VARIANT kernel; Ctrl-A X ends it, the kernel log is $KLOG"
	exec "${command[@]}" -serial mon:stdio
fi

say BOOT "$VARIANT kernel ($NAME); kernel log: ${KLOG#"$ROOT"/}"
start=$SECONDS
status=0
timeout --foreground -k 10 "$TIMEOUT" "${command[@]}" -serial stdio \
	< /dev/null 2> "$LOG/$NAME.qemu.log" |
	tee "$OUT" | grep --line-buffered -vE \
		'^# (program|exit|guest): |^# +(RUN|OK)  ' |
	grep --line-buffered -E "$SHOW" || true
say TIME "$((SECONDS - start)) s"

complain()
{
	printf '%s: %s\n' "$NAME" "$1" >&2
	status=1
}

if ! grep -q '^# guest: end' "$OUT"; then
	complain "the guest did not come to its end (limit $TIMEOUT s)"
	cat "$LOG/$NAME.qemu.log" >&2
	tail -n 5 "$KLOG" >&2 || true
fi
while read -r _ _ program code; do
	case $code in
	0 | 4) ;;
	*) complain "$program ended with status $code" ;;
	esac
done < <(grep '^# exit: ' "$OUT")
"$ROOT/scripts/guest-verdict.sh" "$KLOG" ||
	complain "the kernel of the guest complained, see $KLOG"
exit $status
