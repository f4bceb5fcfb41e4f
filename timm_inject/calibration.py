import torch
CALIBRATIONS = ("harmonic", "keep-seen", None)
def calibrate_rows(fitted, unseen_descriptors, calibration, *, seed):
    mu=fitted.rows.mean(0); c=fitted.mapper.predict_rows(unseen_descriptors)-mu
    c=c/c.norm(dim=1,keepdim=True)*(fitted.rows-mu).norm(dim=1).mean()
    r=c+mu; r[:,-1]+=0.5
    return r, torch.full((len(r),),0.5)
