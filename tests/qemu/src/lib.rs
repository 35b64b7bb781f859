//! Boots the system in QEMU and checks what it does.
