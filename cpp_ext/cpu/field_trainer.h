// One training step of the field.
#pragma once

#include "gas_rt/field_table.h"

namespace gas_rt {
namespace GAS_RT_ISA {

double train(const TrainerBuffers& buffers, const TrainBatch& batch, const AdamStep* adam,
             int threads);

}  // namespace GAS_RT_ISA
}  // namespace gas_rt
