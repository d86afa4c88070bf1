//! Machines of many shapes: the dump is good, and has the memory that the crashed kernel's /proc/iomem had, with stock's
//! purgatory, with ours, and with a wrapped kernel.

use anyhow::Result;
use lastwords_vm::scenarios::shapes::Shape;

/// One test for each shape: its name, and whether it is one of `make test-all`.
macro_rules! shapes {
    ($($(#[$only:meta])* $name:ident: $shape:expr;)*) => {
        $(
            #[test]
            $(#[$only])*
            fn $name() -> Result<()> {
                $shape.dumps_as_stock()
            }
        )*

        /// None is forgotten.
        #[test]
        fn every_shape_has_its_test() {
            assert_eq!(Shape::ALL, [$($shape),*]);
        }
    };
}

shapes! {
    #[ignore = "make test-all: side_by_side:: has a PC of 1 GiB, a_hundred_and_forty_holes one with less simple memory"]
    pc_with_512_mib: Shape::PcSmall;
    #[ignore = "make test-all: side_by_side:: has several ranges of memory"]
    two_nodes: Shape::Numa;
    #[ignore = "make test-all: the other tests' CPU stands for it"]
    cpu_qemu64: Shape::Cpu("qemu64");
    #[ignore = "make test-all: the other tests' CPU stands for it"]
    cpu_nehalem: Shape::Cpu("Nehalem");
    #[ignore = "make test-all: the other tests' CPU stands for it"]
    cpu_haswell: Shape::Cpu("Haswell");
    #[ignore = "make test-all: the other tests' CPU stands for it"]
    cpu_skylake: Shape::Cpu("Skylake-Server");
    #[ignore = "make test-all: the other tests' CPU stands for it"]
    cpu_opteron: Shape::Cpu("Opteron_G3");
    #[ignore = "make test-all: the other tests' CPU stands for it"]
    cpu_epyc: Shape::Cpu("EPYC-Rome");
    #[ignore = "make test-all: slow to emulate"]
    five_levels: Shape::FiveLevels;
    #[ignore = "make test-all: cpus:: has the same machine"]
    sparse_apic_ids: Shape::SparseIds;
    #[ignore = "make test-all: purgatory::memory_comes_after_arming stands for it"]
    a_dimm_before_loading: Shape::Dimm;
    #[ignore = "make test-all: slow to emulate"]
    thirty_two_cpus: Shape::Cpus(32);
    #[ignore = "make test-all: slow to emulate"]
    sixty_four_cpus: Shape::Cpus(64);
    #[ignore = "make test-all: cpus::cpus_that_were_never_started_are_off stands for it"]
    one_cpu_of_four: Shape::NrCpus;
    #[ignore = "make test-all: crash_kinds has fatal-exception, which takes the same way"]
    notifiers_first: Shape::PostNotifiers;
    #[ignore = "make test-all: side_by_side:: has a high region"]
    two_reserved_regions: Shape::TwoRegions;
    #[ignore = "make test-all: a_hundred_and_forty_holes stands for it"]
    a_hole_in_the_memory_map: Shape::Hole;
    a_hundred_and_forty_holes: Shape::Holes;
    #[ignore = "make test-all: slow to emulate"]
    sixteen_gib: Shape::Large;
}
