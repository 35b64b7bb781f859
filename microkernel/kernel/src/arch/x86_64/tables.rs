//! Segment and interrupt descriptor tables.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::idt::InterruptDescriptorTable;
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, structures::gdt::DescriptorFlags};

use super::entry::{debug_entry, double_fault_entry, machine_check_entry, nmi_entry, trap_stubs};

/// The tables of one processor.
pub(super) struct DescriptorTables {
    gdt: GlobalDescriptorTable<9>,
    tss: TaskStateSegment,
}

/// Stacks of the traps that must not trust any other: index in the TSS.
const NMI_STACK: u16 = 0;
const DOUBLE_FAULT_STACK: u16 = 1;
const MACHINE_CHECK_STACK: u16 = 2;
const DEBUG_STACK: u16 = 3;
/// Ends of the stacks of a processor for these traps, in this order.
pub(crate) type TrapStacks = [u64; 4];

static IDT: Once<InterruptDescriptorTable> = Once::new();

impl DescriptorTables {
    pub(super) const fn new() -> Self {
        DescriptorTables {
            gdt: GlobalDescriptorTable::empty(),
            tss: TaskStateSegment::new(),
        }
    }

    /// Offset of the stack pointer of entries from Ring 3, for code in assembly.
    pub(super) const ENTRY_STACK: usize = core::mem::offset_of!(DescriptorTables, tss)
        + core::mem::offset_of!(TaskStateSegment, privilege_stack_table);

    /// Returns where traps from Ring 3 push their frames.
    #[inline]
    pub(super) fn entry_stack(&self) -> u64 {
        let slot = (&raw const self.tss.privilege_stack_table).cast::<u64>();
        // SAFETY: the first word of the table; the struct is packed, so it is not aligned.
        unsafe { slot.read_unaligned() }
    }

    /// Sets where traps from Ring 3 push their frames.
    #[inline]
    pub(super) fn set_entry_stack(&mut self, end: u64) {
        let slot = (&raw mut self.tss.privilege_stack_table).cast::<u64>();
        // SAFETY: the first word of the table; the struct is packed, so it is not aligned.
        unsafe { slot.write_unaligned(end) };
    }

    /// Fills the tables and loads them on the calling processor.
    ///
    /// # Safety
    ///
    /// 1. `self` lives for ever and is not used by another processor.
    /// 2. The stacks are mapped and this processor's alone.
    pub(super) unsafe fn load(&'static mut self, trap_stacks: TrapStacks) {
        // The struct is packed: whole fields only.
        let mut stacks = [VirtAddr::zero(); 7];
        for (place, end) in stacks.iter_mut().zip(trap_stacks) {
            *place = VirtAddr::new_truncate(end);
        }
        self.tss.interrupt_stack_table = stacks;
        let kernel_code = self.gdt.append(Descriptor::kernel_code_segment());
        let kernel_data = self.gdt.append(Descriptor::kernel_data_segment());
        // sysret takes Ring 3's data segment from the place before its 64-bit code segment, and
        // 32-bit code, which there is none of, from the one before that.
        self.gdt
            .append(Descriptor::UserSegment(DescriptorFlags::USER_DATA.bits()));
        self.gdt.append(Descriptor::user_data_segment());
        self.gdt.append(Descriptor::user_code_segment());
        let tss: *const TaskStateSegment = &raw const self.tss;
        // SAFETY: caller's duty 1.
        let descriptor = unsafe { Descriptor::tss_segment_unchecked(tss) };
        let task = self.gdt.append(descriptor);
        let gdt: *const GlobalDescriptorTable<9> = &raw const self.gdt;
        // SAFETY: caller's duty 1; the selectors were made from this very table.
        unsafe {
            (*gdt).load();
            CS::set_reg(kernel_code);
            SS::set_reg(kernel_data);
            DS::set_reg(SegmentSelector::NULL);
            ES::set_reg(SegmentSelector::NULL);
            load_tss(task);
        }
        IDT.call_once(make_idt).load();
    }
}

fn make_idt() -> InterruptDescriptorTable {
    let mut idt = InterruptDescriptorTable::new();
    let stub = |vector: u64| VirtAddr::from_ptr(&raw const trap_stubs) + vector * 16;
    let user = PrivilegeLevel::Ring3;
    // SAFETY: each address is a stub in entry.s that expects exactly this vector's frame, and the
    // stack indices are those that `load` fills.
    unsafe {
        idt.divide_error.set_handler_addr(stub(0));
        let debug = VirtAddr::new(debug_entry as *const () as u64);
        idt.debug
            .set_handler_addr(debug)
            .set_stack_index(DEBUG_STACK);
        let nmi = VirtAddr::new(nmi_entry as *const () as u64);
        idt.non_maskable_interrupt
            .set_handler_addr(nmi)
            .set_stack_index(NMI_STACK);
        idt.breakpoint
            .set_handler_addr(stub(3))
            .set_privilege_level(user);
        idt.overflow
            .set_handler_addr(stub(4))
            .set_privilege_level(user);
        idt.bound_range_exceeded.set_handler_addr(stub(5));
        idt.invalid_opcode.set_handler_addr(stub(6));
        idt.device_not_available.set_handler_addr(stub(7));
        let double_fault = VirtAddr::new(double_fault_entry as *const () as u64);
        idt.double_fault
            .set_handler_addr(double_fault)
            .set_stack_index(DOUBLE_FAULT_STACK);
        idt.invalid_tss.set_handler_addr(stub(10));
        idt.segment_not_present.set_handler_addr(stub(11));
        idt.stack_segment_fault.set_handler_addr(stub(12));
        idt.general_protection_fault.set_handler_addr(stub(13));
        idt.page_fault.set_handler_addr(stub(14));
        idt.x87_floating_point.set_handler_addr(stub(16));
        idt.alignment_check.set_handler_addr(stub(17));
        let machine_check = VirtAddr::new(machine_check_entry as *const () as u64);
        idt.machine_check
            .set_handler_addr(machine_check)
            .set_stack_index(MACHINE_CHECK_STACK);
        idt.simd_floating_point.set_handler_addr(stub(19));
        idt.virtualization.set_handler_addr(stub(20));
        idt.cp_protection_exception.set_handler_addr(stub(21));
        for vector in 32..=255_u8 {
            idt[vector].set_handler_addr(stub(vector.into()));
        }
    }
    idt
}
