from timm_inject.mappers.kernel_ridge import KernelRidgeMapper
class IcisMapper(KernelRidgeMapper):
    name = "icis"
