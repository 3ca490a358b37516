# The devices of the guest's machine; QEMU is built without any other.
CONFIG_Q35=y
CONFIG_VTD=y
CONFIG_HPET=y
CONFIG_ISA_DEBUG=y
CONFIG_NVDIMM=y
CONFIG_IOH3420=y
CONFIG_PCIE_PORT=y
CONFIG_GMEM_NPU=y
