"""The papers and programs behind solvers and grids, as BibTeX, for `plan.cite()`.

A source is a line such as "Lu et al. 2022, arXiv 2211.01095, algorithm 1; k-diffusion, sample_dpmpp_2m". A paper is found by its arXiv
number, any other source by its name.
"""

from __future__ import annotations

import re

from dpmsolver.version import VERSION

__all__ = ["LIBRARY", "bibtex", "cited"]

LIBRARY = """@software{dpmsolver,
  title = {{dpmsolver}},
  author = {{The dpmsolver authors}},
  note = {Version VERSION}
}"""

# arXiv number: key, authors, title, where it appeared (else the preprint), year.
_PAPERS: dict[str, tuple[str, str, str, str, int]] = {
    "2006.11239": (
        "ho2020denoising",
        "Ho, Jonathan and Jain, Ajay and Abbeel, Pieter",
        "Denoising Diffusion Probabilistic Models",
        "NeurIPS",
        2020,
    ),
    "2010.02502": (
        "song2021ddim",
        "Song, Jiaming and Meng, Chenlin and Ermon, Stefano",
        "Denoising Diffusion Implicit Models",
        "ICLR",
        2021,
    ),
    "2011.13456": (
        "song2021score",
        "Song, Yang and Sohl-Dickstein, Jascha and Kingma, Diederik P. and Kumar, Abhishek and Ermon, Stefano and Poole, Ben",
        "Score-Based Generative Modeling through Stochastic Differential Equations",
        "ICLR",
        2021,
    ),
    "2105.14080": (
        "jolicoeur2021gotta",
        "Jolicoeur-Martineau, Alexia and Li, Ke and Pich{\\'e}-Taillefer, R{\\'e}mi and Kachman, Tal and Mitliagkas, Ioannis",
        "Gotta Go Fast When Generating Data with Score-Based Models",
        "",
        2021,
    ),
    "2201.06503": (
        "bao2022analytic",
        "Bao, Fan and Li, Chongxuan and Zhu, Jun and Zhang, Bo",
        "{Analytic-DPM}: an Analytic Estimate of the Optimal Reverse Variance in Diffusion Probabilistic Models",
        "ICLR",
        2022,
    ),
    "2202.00512": (
        "salimans2022progressive",
        "Salimans, Tim and Ho, Jonathan",
        "Progressive Distillation for Fast Sampling of Diffusion Models",
        "ICLR",
        2022,
    ),
    "2202.09778": (
        "liu2022pseudo",
        "Liu, Luping and Ren, Yi and Lin, Zhijie and Zhao, Zhou",
        "Pseudo Numerical Methods for Diffusion Models on Manifolds",
        "ICLR",
        2022,
    ),
    "2204.13902": (
        "zhang2023fast",
        "Zhang, Qinsheng and Chen, Yongxin",
        "Fast Sampling of Diffusion Models with Exponential Integrator",
        "ICLR",
        2023,
    ),
    "2206.00364": (
        "karras2022elucidating",
        "Karras, Tero and Aittala, Miika and Aila, Timo and Laine, Samuli",
        "Elucidating the Design Space of Diffusion-Based Generative Models",
        "NeurIPS",
        2022,
    ),
    "2206.00927": (
        "lu2022dpm",
        "Lu, Cheng and Zhou, Yuhao and Bao, Fan and Chen, Jianfei and Li, Chongxuan and Zhu, Jun",
        "{DPM-Solver}: A Fast {ODE} Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps",
        "NeurIPS",
        2022,
    ),
    "2209.03003": (
        "liu2023flow",
        "Liu, Xingchao and Gong, Chengyue and Liu, Qiang",
        "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow",
        "ICLR",
        2023,
    ),
    "2211.01095": (
        "lu2022dpmpp",
        "Lu, Cheng and Zhou, Yuhao and Bao, Fan and Chen, Jianfei and Li, Chongxuan and Zhu, Jun",
        "{DPM-Solver++}: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
        "",
        2022,
    ),
    "2302.04867": (
        "zhao2023unipc",
        "Zhao, Wenliang and Bai, Lujia and Rao, Yongming and Zhou, Jie and Lu, Jiwen",
        "{UniPC}: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models",
        "NeurIPS",
        2023,
    ),
    "2305.14267": (
        "gonzalez2023seeds",
        "Gonzalez, Martin and Fernandez, Nelson and Tran, Thuy and Gherbi, Elies and Hajri, Hatem and Masmoudi, Nader",
        "{SEEDS}: Exponential {SDE} Solvers for Fast High-Quality Sampling from Diffusion Models",
        "NeurIPS",
        2023,
    ),
    "2306.04848": (
        "permenter2024interpreting",
        "Permenter, Frank and Yuan, Chenyang",
        "Interpreting and Improving Diffusion Models from an Optimization Perspective",
        "ICML",
        2024,
    ),
    "2308.02157": (
        "zhang2023improved",
        "Zhang, Qinsheng and Song, Jiaming and Chen, Yongxin",
        "Improved Order Analysis and Design of Exponential Integrator for Diffusion Models Sampling",
        "",
        2023,
    ),
    "2309.05019": (
        "xue2023sa",
        "Xue, Shuchen and Yi, Mingyang and Luo, Weijian and Zhang, Shifeng and Sun, Jiacheng and Li, Zhenguo and Ma, Zhi-Ming",
        "{SA-Solver}: Stochastic {Adams} Solver for Fast Sampling of Diffusion Models",
        "NeurIPS",
        2023,
    ),
    "2309.06169": (
        "cui2025elucidating",
        "Cui, Qinpeng and Zhang, Xinyi and Bao, Qiqi and Liao, Qingmin",
        "Elucidating the Solution Space of Extended Reverse-Time {SDE} for Diffusion Models",
        "WACV",
        2025,
    ),
    "2310.04378": (
        "luo2023latent",
        "Luo, Simian and Tan, Yiqin and Huang, Longbo and Li, Jian and Zhao, Hang",
        "Latent Consistency Models: Synthesizing High-Resolution Images with Few-Step Inference",
        "",
        2023,
    ),
    "2310.13268": (
        "zheng2023dpm",
        "Zheng, Kaiwen and Lu, Cheng and Chen, Jianfei and Zhu, Jun",
        "{DPM-Solver-v3}: Improved Diffusion {ODE} Solver with Empirical Model Statistics",
        "NeurIPS",
        2023,
    ),
    "2312.00094": (
        "zhou2024fast",
        "Zhou, Zhenyu and Chen, Defang and Wang, Can and Chen, Chun",
        "Fast {ODE}-based Sampling for Diffusion Models in Around 5 Steps",
        "CVPR",
        2024,
    ),
    "2402.19159": (
        "zheng2024trajectory",
        "Zheng, Jianbin and Hu, Minghui and Fan, Zhongyi and Wang, Chaoyue and Ding, Changxing and Tao, Dacheng and Cham, Tat-Jen",
        "Trajectory Consistency Distillation",
        "",
        2024,
    ),
    "2403.03206": (
        "esser2024scaling",
        'Esser, Patrick and Kulal, Sumith and Blattmann, Andreas and Entezari, Rahim and M{\\"u}ller, Jonas and Saini, Harry and Levi, '
        "Yam and Lorenz, Dominik and Sauer, Axel and Boesel, Frederic and Podell, Dustin and Dockhorn, Tim and English, Zion "
        "and Lacey, Kyle and Goodwin, Alex and Marek, Yannik and Rombach, Robin",
        "Scaling Rectified Flow Transformers for High-Resolution Image Synthesis",
        "ICML",
        2024,
    ),
    "2404.14507": (
        "sabour2024align",
        "Sabour, Amirmojtaba and Fidler, Sanja and Kreis, Karsten",
        "Align Your Steps: Optimizing Sampling Schedules in Diffusion Models",
        "ICML",
        2024,
    ),
    "2407.05407": (
        "du2024cosyvoice",
        "Du, Zhihao and Chen, Qian and Zhang, Shiliang and Hu, Kai and Lu, Heng and Yang, Yexin and Hu, Hangrui and Zheng, Siqi and Gu, "
        "Yue and Ma, Ziyang and Gao, Zhifu and Yan, Zhijie",
        "{CosyVoice}: A Scalable Multilingual Zero-shot Text-to-speech Synthesizer based on Supervised Semantic Tokens",
        "",
        2024,
    ),
    "2407.12173": (
        "lee2025beta",
        "Lee, Haeil and Lee, Hansang and Gye, Seoyeon and Kim, Junmo",
        "Beta Sampling is All You Need: Efficient Image Generation Strategy for Diffusion Models using Stepwise Spectral Analysis",
        "WACV",
        2025,
    ),
    "2406.08070": (
        "chung2025cfgpp",
        "Chung, Hyungjin and Kim, Jeongsol and Park, Geon Yeong and Nam, Hyelin and Ye, Jong Chul",
        "{CFG++}: Manifold-constrained Classifier Free Guidance for Diffusion Models",
        "ICLR",
        2025,
    ),
}

# A name in a source: what is no preprint.
_OTHERS: dict[str, str] = {
    "Krogstad 2005": """@article{krogstad2005generalized,
  author = {Krogstad, Stein},
  title = {Generalized integrating factor methods for stiff {PDEs}},
  journal = {Journal of Computational Physics},
  volume = {203},
  number = {1},
  pages = {72--88},
  year = {2005}
}""",
    "Hochbruck & Ostermann 2005": """@article{hochbruck2005explicit,
  author = {Hochbruck, Marlis and Ostermann, Alexander},
  title = {Explicit Exponential {Runge--Kutta} Methods for Semilinear Parabolic Problems},
  journal = {SIAM Journal on Numerical Analysis},
  volume = {43},
  number = {3},
  pages = {1069--1090},
  year = {2005}
}""",
    "Hairer, Norsett & Wanner": """@book{hairer1993solving,
  author = {Hairer, Ernst and N{\\o}rsett, Syvert P. and Wanner, Gerhard},
  title = {Solving Ordinary Differential Equations {I}: Nonstiff Problems},
  publisher = {Springer},
  edition = {2},
  year = {1993}
}""",
    "k-diffusion": """@misc{crowson2022kdiffusion,
  author = {Crowson, Katherine},
  title = {k-diffusion},
  year = {2022},
  url = {https://github.com/crowsonkb/k-diffusion}
}""",
    "ComfyUI": """@misc{comfyui,
  title = {{ComfyUI}},
  author = {{comfyanonymous}},
  url = {https://github.com/comfyanonymous/ComfyUI}
}""",
    "azula": """@misc{azula,
  title = {Azula: Diffusion models in {PyTorch}},
  author = {{The Probabilists}},
  url = {https://github.com/probabilists/azula}
}""",
    "sd-webui-samplers-scheduler": """@misc{seniorious,
  title = {sd-webui-samplers-scheduler},
  author = {{Carzit}},
  url = {https://github.com/Carzit/sd-webui-samplers-scheduler}
}""",
    "diffusers": """@misc{vonplaten2022diffusers,
  author = {von Platen, Patrick and Patil, Suraj and Lozhkov, Anton and Cuenca, Pedro and Lambert, Nathan and Rasul, Kashif and \
Davaadorj, Mishig and Nair, Dhruv and Paul, Sayak and Berman, William and Xu, Yiyi and Liu, Steven and Wolf, Thomas},
  title = {Diffusers: State-of-the-art diffusion models},
  year = {2022},
  url = {https://github.com/huggingface/diffusers}
}""",
}


def bibtex(source: str) -> list[str]:
    """Return the BibTeX entries of a source, in the order in which it names them, each once.

    Examples:
        >>> source = "Lu et al. 2022, arXiv 2211.01095, appendix; k-diffusion, sample_dpmpp_2m_sde"
        >>> [entry.partition(",")[0] for entry in bibtex(source)]
        ['@misc{lu2022dpmpp', '@misc{crowson2022kdiffusion']
    """
    papers = [
        (found.start(), _entry(found[1]))
        for found in re.finditer(r"arXiv (\d{4}\.\d{5})", source)
        if found[1] in _PAPERS
    ]
    others = [(source.index(name), entry) for name, entry in _OTHERS.items() if name in source]
    return list(dict.fromkeys(entry for _, entry in sorted(papers + others)))


def cited(source: str) -> str:
    """Return the text of a citation: the library, and every paper and program of a source. A source that none is known of is a note."""
    entries = bibtex(source)
    if source and not entries:
        entries = ["@misc{source,\n  note = {" + source.replace("{", "").replace("}", "") + "}\n}"]
    return "\n\n".join([LIBRARY.replace("VERSION", VERSION), *entries])


def _entry(number: str) -> str:
    key, authors, title, place, year = _PAPERS[number]
    kind = "inproceedings" if place else "misc"
    fields = {"author": authors, "title": title} | ({"booktitle": place} if place else {})
    fields |= {"year": str(year), "eprint": number, "archivePrefix": "arXiv"}
    return f"@{kind}{{{key},\n" + ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items()) + "\n}"
