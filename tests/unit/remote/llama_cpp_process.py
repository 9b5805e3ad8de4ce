"""Run by tests as a process: llama.cpp's HTTP server for a GGUF file on a port."""

import sys
import time

import xllamacpp

chosen = xllamacpp.CommonParams()
chosen.model.path = sys.argv[1]
chosen.port = int(sys.argv[2])
chosen.n_ctx, chosen.n_parallel, chosen.warmup = 1024, 2, False
chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = 1
chosen.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
chosen.cache_type_k = chosen.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
if len(sys.argv) > 3:
    chosen.api_keys = [sys.argv[3]]
server = xllamacpp.Server(chosen)
while True:
    time.sleep(3600)
